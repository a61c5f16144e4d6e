"""Attributes replaced for a while: what a module, a class or an object has afterwards."""

from __future__ import annotations

import types

import pytest

from drsl_plugin.toolbox.patching import replaced, replaced_all


class Parent:
    inherited = 1

    @staticmethod
    def shout() -> str:
        return "ah"


class Child(Parent):
    pass


def test_a_module_has_its_attribute_back_also_after_an_error():
    module = types.ModuleType("module")
    module.name = before = object()
    with replaced(module, "name", 2):
        assert module.name == 2
    assert module.name is before
    with pytest.raises(ZeroDivisionError), replaced(module, "name", 2):
        raise ZeroDivisionError
    assert module.name is before


def test_what_was_absent_or_inherited_is_so_again():
    with replaced_all((Child, "inherited", 2), (Child, "new", 3)):
        assert (Child.inherited, Child.new, Parent.inherited) == (2, 3, 1)
    assert vars(Child).keys().isdisjoint({"inherited", "new"})
    assert Child.inherited == 1


def test_a_static_method_comes_back_as_one():
    with replaced(Parent, "shout", lambda self: "oh"):
        assert Parent().shout() == "oh"
    assert Parent().shout() == Child().shout() == "ah"


def test_of_several_that_fail_none_stays():
    module = types.ModuleType("module")
    with pytest.raises(AttributeError), replaced_all((module, "name", 1), (object(), "name", 2)):
        pass
    assert not hasattr(module, "name")
