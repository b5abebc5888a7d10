// The videos of a question as elements; those of the next one are made before they are needed, and load meanwhile.
const SIDES = ["A", "B"]; // from the left, or from the top where the page is narrow

export function nameOf(place, count) { return count === 2 ? SIDES[place] : count === 1 ? "Video" : `Video ${place + 1}`; }

export class Stage {
  #made = new Map();

  constructor(element, onBroken) {
    this.element = element;
    this.onBroken = onBroken;
    this.front = 0;
  }

  // Have the elements of these questions and of no others; the first is on show.
  set(questions) {
    const wanted = new Set(questions.map((each) => each.showing));
    for (const [showing, group] of this.#made) {
      if (wanted.has(showing)) continue;
      for (const video of group.querySelectorAll("video")) { video.removeAttribute("src"); video.load(); }
      group.remove();
      this.#made.delete(showing);
    }
    for (const question of questions) if (!this.#made.has(question.showing)) this.#make(question);
    questions.forEach((question, place) => { this.#made.get(question.showing).hidden = place > 0; });
    const group = questions.length ? this.#made.get(questions[0].showing) : null;
    if (group === this.group) return;
    this.group = group;
    if (group) this.bring(0);
  }

  get videos() { return this.group ? [...this.group.querySelectorAll("video")] : []; }

  get blinking() { return this.element.classList.contains("blink"); }
  set blinking(on) { this.element.classList.toggle("blink", on); }

  // While blinking, the one that is seen.
  bring(place) {
    const sides = [...this.group.children];
    this.front = ((place % sides.length) + sides.length) % sides.length;
    sides.forEach((side, index) => side.classList.toggle("front", index === this.front));
  }

  label(place, text) { this.group.children[place].querySelector("figcaption span").textContent = text; }

  #make(question) {
    const group = document.createElement("div");
    group.className = "sides";
    group.dataset.count = question.videos.length;
    const count = question.videos.length;
    question.videos.forEach((each, place) => {
      const side = document.createElement("figure");
      const video = document.createElement("video");
      const caption = document.createElement("figcaption");
      const name = nameOf(place, count);
      Object.assign(video, { src: `/videos/${each.id}`, preload: "auto", muted: true, playsInline: true });
      video.setAttribute("aria-label", count === 2 ? `Video ${name}` : name);
      video.addEventListener("error", () => { if (video.hasAttribute("src")) this.onBroken(question); });
      video.addEventListener("loadedmetadata", () => side.classList.toggle("tiny", video.videoWidth < 128));
      caption.append(name, document.createElement("span")); // no <output>: it would be read aloud at every frame
      side.append(video, caption);
      group.append(side);
    });
    group.hidden = true;
    this.#made.set(question.showing, group);
    this.element.append(group);
  }
}
