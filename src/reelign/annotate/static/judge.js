// The judging page: questions come from the server two at a time, answers go back through the outbox.
import { bindControls } from "./controls.js";
import { Defects } from "./defects.js";
import { listen } from "./keys.js";
import { Outbox, Refused, post } from "./outbox.js";
import { Player } from "./player.js";
import { Stage, nameOf } from "./stage.js";
import { Sheet } from "./sheet.js";

const RENEW_MS = 60000, LOOK_AGAIN_MS = 10000;
const element = (id) => document.getElementById(id);
const judging = element("judging"), rest = element("rest"), notice = element("notice");

let questions = [], last = null, shown = null, done = 0, stopped = false;
const spent = []; // seconds of each answer in this sitting
let moves = 0; // what the judge did; an answer of the server to an earlier question of ours is out of date

const stage = new Stage(element("stage"), (question) => {
  if (question.showing === shown?.showing) say("A video does not play. Skip the question if it stays so.");
});
const player = new Player(drawClock);
const controls = bindControls(player, stage);
const defects = new Defects(player);
const sheet = new Sheet(element("answers"));
const outbox = new Outbox({ onWork: take, onTrouble: say, onRefused: refused });

function say(text) {
  notice.hidden = !text;
  if (notice.textContent !== (text ?? "")) notice.textContent = text ?? "";
}

function drawClock() {
  controls.draw();
  stage.videos.forEach((video, place) => stage.label(place, ` frame ${player.frameOf(place) + 1}`));
}

// What the server says there is to do; what is answered already and only on its way is not to be done again.
function take(work) {
  const sent = outbox.showings;
  questions = work.questions.filter((each) => !sent.has(each.showing));
  ({ last, done, stopped } = work);
  show();
}

function show() {
  const current = questions[0] ?? null;
  judging.hidden = !current;
  rest.hidden = Boolean(current);
  stage.set(questions);
  progress();
  if (!current) return showRest();
  if (shown?.showing === current.showing && shown.revision === current.revision) return;
  shown = current;
  element("prompt").textContent = current.prompt;
  element("image").hidden = !current.image;
  if (current.image) element("image").src = `/images/${encodeURIComponent(current.videos[0].id)}`;
  sheet.begin(current);
  defects.reset(current.videos.length);
  player.playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  player.show(stage.videos, current.videos.map((each) => each.fps));
  controls.begin();
}

function showRest() {
  shown = null;
  player.pause();
  const waiting = outbox.showings.size > 0;
  element("rest-title").textContent = waiting ? "One moment" : stopped ? "That is all. Thank you!" : "Nothing left for now";
  element("rest-text").textContent = waiting ? "The last answer is on its way." : stopped
    ? `You answered ${done} questions.`
    : "What there is was before you already, or others have it before them. This page looks again by itself.";
}

function progress() {
  const quota = Number(judging.dataset.quota);
  const made = done + outbox.showings.size;
  const sorted = [...spent].sort((one, other) => one - other);
  const pace = sorted.length ? ` · ${sorted[sorted.length >> 1].toFixed(0)} s each` : "";
  element("progress").textContent = `${made}${quota ? ` of ${quota}` : ""} answered${pace}`;
  element("meter").hidden = !quota;
  if (quota) element("meter").value = Math.min(1, made / quota);
  for (const id of ["undo", "undo-rest"]) element(id).disabled = !last && !outbox.showings.size;
}

function submit() {
  if (!shown) return;
  const lacking = sheet.lacking(defects);
  if (lacking) return say(lacking);
  say(null);
  const answer = {
    showing: shown.showing, revision: shown.revision, ...sheet.filled(), defects: defects.marks,
    no_defects: defects.sawNone,
  };
  sheet.remember(answer);
  spent.push(answer.duration_s);
  moves += 1;
  const sending = outbox.send(answer);
  questions = questions.slice(1);
  show();
  return sending;
}

async function ask(path, body) {
  const mine = ++moves;
  try {
    const work = await post(path, body);
    if (mine !== moves) return look();
    take(work);
    say(null);
  } catch (error) {
    if (error instanceof Refused) refused(error);
    else say("No connection. Try again in a moment.");
  }
}

function refused(error) {
  say(error.status === 401 || error.status === 403 ? `${error.message} Load the page again.` : error.message);
  if (error.status === 409 || error.status === 422) { shown = null; look(); }
}

// What there is to do now, unless the judge or an answer on its way is faster.
async function look() {
  const before = moves;
  const work = await post("/api/work").catch(() => null);
  if (work && before === moves && !outbox.showings.size) take(work);
}

async function undo() {
  await outbox.flush(); // the latest answer has to be there before it can be taken back
  if (last) await ask("/api/undo", { showing: last[0], revision: last[1] });
}

const skip = () => shown && ask("/api/skip", { showing: shown.showing, note: "does not play" });
const dialog = (id) => () => element(id).showModal();

element("answers").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
for (const [id, act] of Object.entries({
  undo, "undo-rest": undo, skip, "show-instructions": dialog("instructions"), "show-keys": dialog("keys"),
})) element(id).addEventListener("click", act);

listen({
  ...controls.keys, u: undo, s: skip, d: () => defects.mark(), "?": dialog("keys"),
  r: () => element("reason")?.focus(), Enter: submit,
  ArrowUp: () => sheet.move(-1), ArrowDown: () => sheet.move(1),
  ...Object.fromEntries([..."0123456789"].map((digit) => [digit, () => sheet.choose(digit)])),
});

setInterval(() => { if (!document.hidden && shown) look(); }, RENEW_MS);
setInterval(() => { if (!document.hidden && !shown && !stopped) look(); }, LOOK_AGAIN_MS);

if (!localStorage.getItem("reelign-instructed")) {
  localStorage.setItem("reelign-instructed", "yes");
  element("instructions").showModal();
}
outbox.flush().then(() => ask("/api/work"));
