// Answers on their way. One is gone from here only when the server says that it is recorded: a lost network is waited
// for, a closed page goes on where it was, and the server records what it gets twice once.
const KEPT = "reelign-outbox";
const LONGEST_MS = 15000;

export class Refused extends Error {
  constructor(status, told) {
    super([told.error, told.mend].filter(Boolean).join(" "));
    this.status = status;
  }
}

export async function post(path, body) {
  const csrf = document.querySelector("meta[name=csrf]").content;
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
    body: JSON.stringify(body ?? {}),
  });
  const told = await answer.json().catch(() => ({}));
  if (answer.status >= 500 || answer.status === 429) throw new Error(told.error ?? "The server is busy.");
  if (!answer.ok) throw new Refused(answer.status, told);
  return told;
}

export class Outbox {
  #waiting = JSON.parse(localStorage.getItem(KEPT) ?? "[]");
  #running = null;

  // `onWork` gets what the server says comes next, `onTrouble` a text or null, `onRefused` what is not recorded.
  constructor({ onWork, onTrouble, onRefused }) { Object.assign(this, { onWork, onTrouble, onRefused }); }

  get showings() { return new Set(this.#waiting.map((each) => each.showing)); }

  send(answer) {
    this.#waiting.push(answer);
    this.#keep();
    return this.flush();
  }

  flush() {
    this.#running ??= this.#deliver().finally(() => { this.#running = null; });
    return this.#running;
  }

  async #deliver() {
    for (let wait = 500; this.#waiting.length; ) {
      try {
        const work = await post("/api/answer", this.#waiting[0]);
        this.#done();
        wait = 500;
        this.onTrouble(null);
        this.onWork(work);
      } catch (error) {
        if (error instanceof Refused) {
          this.#done();
          this.onRefused(error);
          continue;
        }
        this.onTrouble("No connection. Your answer is kept here and sent again by itself.");
        await new Promise((done) => {
          const timer = setTimeout(done, wait);
          addEventListener("online", () => { clearTimeout(timer); done(); }, { once: true });
        });
        wait = Math.min(2 * wait, LONGEST_MS);
      }
    }
  }

  #done() {
    this.#waiting.shift();
    this.#keep();
  }

  #keep() { localStorage.setItem(KEPT, JSON.stringify(this.#waiting)); }
}
