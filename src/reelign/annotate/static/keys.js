// Keys act on the page unless they are being typed somewhere, or the judge turned them off.
const TYPING = "textarea, select, input:not([type=radio]):not([type=checkbox]):not([type=range])";
const OWN = { "input[type=radio]": ["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", " "],
  "input[type=range]": ["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"],
  "button, a, summary, input[type=checkbox]": [" ", "Enter"] };
const KEPT = "reelign-keys";

export function listen(actions) {
  const wanted = document.getElementById("use-keys");
  wanted.checked = localStorage.getItem(KEPT) !== "off";
  wanted.addEventListener("change", () => localStorage.setItem(KEPT, wanted.checked ? "on" : "off"));

  document.addEventListener("keydown", (event) => {
    const target = event.target;
    if (event.key === "Escape" && target.matches?.(TYPING)) return target.blur();
    if (event.ctrlKey && event.key === "Enter") return actions.Enter();
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || !wanted.checked) return;
    if (document.querySelector("dialog[open]") || target.matches?.(TYPING)) return;
    // A dialog that was just closed keeps the focus until the next frame; its button must not swallow an Enter.
    const own = target.closest?.("dialog") ? {} : OWN;
    for (const [selector, keys] of Object.entries(own)) if (target.matches?.(selector) && keys.includes(event.key)) return;
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || (event.repeat && !["ArrowLeft", "ArrowRight", ",", "."].includes(event.key))) return;
    event.preventDefault();
    action();
  });

  // A button that was clicked would catch the next Enter; one that was reached by Tab keeps the focus.
  document.addEventListener("click", (event) => { if (event.detail > 0) event.target.closest("button")?.blur(); });
}
