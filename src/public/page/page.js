"use strict";
// Optional: without this script, the search is a plain form, and commands have no copy button.
const copy = async (button) => {
  const text = button.previousElementSibling.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    getSelection().selectAllChildren(button.previousElementSibling);
    return;
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
};
for (const button of document.querySelectorAll("button")) {
  button.hidden = false;
  button.addEventListener("click", () => copy(button));
}

const input = document.getElementById("q");
// If the page does not contain all images, the server has to search.
if (input && "whole" in input.dataset) {
  const images = [...document.querySelectorAll(".images > li")];
  const output = document.querySelector("output");
  const all = output.textContent;
  input.form.addEventListener("submit", (event) => event.preventDefault());
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const image of images) {
      image.hidden = !words.every((word) => image.dataset.search.includes(word));
      found += image.hidden ? 0 : 1;
    }
    output.textContent = words.length ? `${found} of ${all}` : all;
  });
}
