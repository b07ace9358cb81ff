// Copies a key id to the clipboard; without this script the buttons stay hidden and nothing else is missing.
(() => {
  if (!navigator.clipboard) return;
  const show = (root) => root.querySelectorAll("button.copy[hidden]").forEach((button) => (button.hidden = false));
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    await navigator.clipboard.writeText(button.dataset.copy);
    const text = button.firstChild;
    text.data = "Copied";
    setTimeout(() => (text.data = "Copy"), 1500);
  });
  document.addEventListener("htmx:load", (event) => show(event.target));
  show(document);
})();
