// Tagged defects with the stretch of the video in which they are seen.
import { nameOf } from "./stage.js";

export class Defects {
  marks = [];
  #begun = null;

  constructor(player) {
    this.player = player;
    this.list = document.getElementById("marks");
    if (!this.list) return;
    this.button = document.getElementById("mark");
    this.button.addEventListener("click", () => this.mark());
  }

  get sawNone() { return document.getElementById("no-defects")?.checked ?? false; }

  reset(count) {
    if (!this.list) return;
    this.marks = [];
    this.#begun = null;
    const none = document.getElementById("no-defects");
    if (none) none.checked = false;
    const names = Array.from({ length: count }, (_, place) => new Option(nameOf(place, count), place));
    document.getElementById("place").replaceChildren(...names);
    this.#draw();
  }

  // The first call begins a stretch at what is on the screen, the second ends it there.
  mark() {
    if (!this.list) return;
    const now = Number(this.player.time.toFixed(3));
    if (this.#begun === null) this.#begun = now;
    else {
      const [start_s, end_s] = [Math.min(this.#begun, now), Math.max(this.#begun, now)];
      const place = Number(document.getElementById("place").value);
      this.marks.push({ tag: document.getElementById("tag").value, place, start_s, end_s });
      this.#begun = null;
    }
    this.#draw();
  }

  #draw() {
    const open = this.#begun !== null;
    this.button.textContent = open ? `End here (began at ${this.#begun.toFixed(2)} s)` : "Begin here";
    this.button.setAttribute("aria-pressed", String(open));
    this.list.replaceChildren(...this.marks.map((mark, index) => {
      const where = document.getElementById("place").options[mark.place].text;
      const item = document.createElement("li");
      const remove = document.createElement("button");
      remove.type = "button";
      remove.textContent = "Remove";
      remove.addEventListener("click", () => { this.marks.splice(index, 1); this.#draw(); });
      item.append(`${mark.tag}, ${where}, ${mark.start_s.toFixed(2)} to ${mark.end_s.toFixed(2)} s `, remove);
      return item;
    }));
  }
}
