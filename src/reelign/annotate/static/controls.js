// Buttons of the player, their keys, and what of them is kept from one question to the next.
const SPEEDS = [0.25, 0.5, 1, 1.5, 2];
const KEPT = "reelign-playback";
const SKIP_S = 0.5;

export function bindControls(player, stage) {
  const element = (id) => document.getElementById(id);
  const kept = { speed: 1, loop: true, ...JSON.parse(localStorage.getItem(KEPT) ?? "{}") };
  const scrub = element("scrub"), play = element("play"), blink = element("blink"), other = element("other");
  const playText = play.firstChild;

  function set(change) {
    Object.assign(kept, change);
    localStorage.setItem(KEPT, JSON.stringify(kept));
    player.speed = kept.speed;
    player.loop = kept.loop;
    for (const video of player.videos) video.playbackRate = kept.speed;
    element("speed").value = String(kept.speed);
    element("loop").setAttribute("aria-pressed", String(kept.loop));
  }

  function setBlink(on) {
    if (!blink) return;
    stage.blinking = on;
    blink.setAttribute("aria-pressed", String(on));
    other.hidden = !on;
  }

  function full() {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen?.() // not a part of the page: what it has to say must be seen
      .catch(() => {});
  }

  const faster = (by) => {
    const place = SPEEDS.indexOf(kept.speed) + by;
    if (SPEEDS[place]) set({ speed: SPEEDS[place] });
  };
  const toggleBlink = () => setBlink(!stage.blinking);
  const showOther = () => { if (stage.blinking) stage.bring(stage.front + 1); };
  const toggleLoop = () => set({ loop: !kept.loop });
  const jump = (seconds) => player.seek(Math.max(0, Math.min(player.duration, player.time + seconds)));

  play.addEventListener("click", () => player.toggle());
  element("back").addEventListener("click", () => player.step(-1));
  element("forward").addEventListener("click", () => player.step(1));
  element("speed").addEventListener("change", (event) => set({ speed: Number(event.target.value) }));
  element("loop").addEventListener("click", toggleLoop);
  element("full").addEventListener("click", full);
  blink?.addEventListener("click", toggleBlink);
  other?.addEventListener("click", showOther);
  stage.element.addEventListener("click", () => (stage.blinking ? showOther() : player.toggle()));
  scrub.addEventListener("input", () => {
    if (player.playing) player.pause();
    player.seek(Number(scrub.value) * player.duration);
  });
  set({});

  return {
    begin() { setBlink(false); },
    draw() {
      const share = player.duration ? player.time / player.duration : 0;
      if (document.activeElement !== scrub || player.playing) scrub.value = share;
      const clock = `${player.time.toFixed(2)} of ${player.duration.toFixed(2)} s`;
      if (element("clock").textContent !== clock) element("clock").textContent = clock;
      const text = player.playing ? "Pause " : "Play ";
      if (playText.textContent !== text) playText.textContent = text;
    },
    keys: {
      " ": () => player.toggle(), ",": () => player.step(-1), ".": () => player.step(1),
      ArrowLeft: () => jump(-SKIP_S), ArrowRight: () => jump(SKIP_S), "-": () => faster(-1), "+": () => faster(1),
      "=": () => faster(1), l: toggleLoop, b: toggleBlink, x: showOther, f: full,
    },
  };
}
