"use strict";
// Without this the page works too: the search is then a form, and commands are copied by hand.
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
// Where not all images are here, the server has to look.
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
