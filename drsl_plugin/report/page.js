"use strict";
const pictures = JSON.parse(document.getElementById("pictures").textContent);
for (const image of document.querySelectorAll("img[data-picture]")) image.src = pictures[image.dataset.picture];

const form = document.getElementById("switch");
if (form) {
  const panels = [...document.querySelectorAll(".panel")];
  const show = () => {
    const chosen = new FormData(form);
    const run = chosen.get("run") ?? "0", target = chosen.get("target") ?? "0";
    for (const panel of panels) panel.hidden = panel.dataset.run !== run || panel.dataset.target !== target;
    const shown = panels.find((panel) => !panel.hidden);
    document.getElementById("none").hidden = Boolean(shown);
    document.getElementById("shown").textContent = shown ? "Shown: " + shown.querySelector("h3").textContent.trim() : "";
  };
  form.addEventListener("change", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  show();
}
