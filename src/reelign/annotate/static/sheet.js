// The answers to one question set: which dimension is next, what is chosen, how long it took.
export class Sheet {
  #before = new Map(); // showing to what was answered, for when it is taken back
  #seconds = 0;
  #since = null;

  constructor(form) {
    this.form = form;
    this.dimensions = [...form.querySelectorAll(".dimension")];
    this.reason = document.getElementById("reason");
    this.place = 0;
    for (const [index, dimension] of this.dimensions.entries()) {
      dimension.addEventListener("change", () => this.mark(index + 1));
      dimension.addEventListener("focusin", () => this.mark(index));
    }
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#stop() : this.#start()));
  }

  begin(question) {
    this.form.reset();
    const before = this.#before.get(question.showing);
    if (this.reason) this.reason.value = before?.reason ?? "";
    for (const [name, option] of Object.entries(before?.answers ?? {})) {
      const input = this.form.querySelector(`.dimension[data-name="${CSS.escape(name)}"] input[value="${CSS.escape(option)}"]`);
      if (input) input.checked = true;
    }
    // Radios that were chosen by a mouse keep the focus, and with it the arrow keys.
    if (this.form.contains(document.activeElement)) document.activeElement.blur();
    this.mark(0);
    this.#seconds = 0;
    this.#since = null;
    if (!document.hidden) this.#start();
  }

  // Digits answer the dimension that is marked; after the last it stays marked.
  mark(index) {
    this.place = Math.max(0, Math.min(index, this.dimensions.length - 1));
    this.dimensions.forEach((each, place) => each.classList.toggle("now", place === this.place));
  }

  move(by) { this.mark(this.place + by); }

  choose(key) {
    const input = this.dimensions[this.place].querySelector(`input[data-key="${key}"]`);
    if (!input) return;
    input.checked = true;
    this.mark(this.place + 1);
  }

  // What is still to be done before it can be sent; null for nothing.
  lacking(defects) {
    const open = this.dimensions.findIndex((each) => !each.querySelector("input:checked"));
    if (open >= 0) {
      this.mark(open);
      return `Not answered yet: ${this.dimensions[open].querySelector("legend").firstChild.textContent.trim()}`;
    }
    const { reason, defectTags } = document.getElementById("judging").dataset;
    if (reason === "required" && !this.reason.value.trim()) {
      this.reason.focus();
      return "Please write a few words on why.";
    }
    if (defectTags === "required" && !defects.marks.length && !defects.sawNone) return "Mark a defect, or tick that you see none.";
    return null;
  }

  filled() {
    this.#stop();
    const answers = this.dimensions.map((each) => [each.dataset.name, each.querySelector("input:checked").value]);
    return { answers: Object.fromEntries(answers), reason: this.reason?.value ?? "", duration_s: this.#seconds };
  }

  remember(answer) {
    this.#before.set(answer.showing, answer);
    if (this.#before.size > 50) this.#before.delete(this.#before.keys().next().value);
  }

  #start() { this.#since ??= performance.now(); }

  #stop() {
    if (this.#since !== null) this.#seconds += (performance.now() - this.#since) / 1000;
    this.#since = null;
  }
}
