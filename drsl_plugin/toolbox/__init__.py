"""The contract between what knows a toolbox and what does not, and what both toolboxes share."""
