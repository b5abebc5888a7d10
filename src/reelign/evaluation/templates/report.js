"use strict";
// All videos follow one leader. Browsers loop each video on its own and drift apart, so the page turns looping off,
// begins every lap together, and within a lap bends the speed of a video that is ahead or behind.
(() => {
  const videos = [...document.querySelectorAll("#samples video")];
  const bar = document.querySelector(".controls");
  const fps = Number(bar.dataset.fps), frames = Number(bar.dataset.frames);
  const play = document.getElementById("play"), speed = document.getElementById("speed");
  const shown = document.getElementById("frame");
  let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;

  const usable = () => videos.filter((video) => !video.error && video.readyState >= 1);
  const start = (video) => video.play().catch(() => {});
  const frameOf = (video) => Math.min(frames - 1, Math.floor(video.currentTime * fps + 1e-3));

  function lap(all) {
    for (const video of all) { video.currentTime = 0; video.playbackRate = Number(speed.value); }
    if (playing) all.forEach(start);
  }

  function keepStep(all, leader) {
    const rate = Number(speed.value);
    for (const video of all) {
      if (video === leader || video.ended || video.seeking) continue;
      const ahead = (video.currentTime - leader.currentTime) * fps; // in frames
      if (Math.abs(ahead) > 0.75) video.currentTime = leader.currentTime;
      else video.playbackRate = rate * (1 - 0.4 * Math.max(-0.5, Math.min(0.5, ahead)));
      if (video.paused) start(video);
    }
    leader.playbackRate = rate;
    if (leader.paused && !leader.ended) start(leader);
  }

  function tick() {
    const all = usable();
    const leader = all[0];
    if (leader) {
      if (playing && leader.ended) lap(all);
      else if (playing) keepStep(all, leader);
      shown.textContent = `frame ${frameOf(leader) + 1} of ${frames}`;
    }
    requestAnimationFrame(tick);
  }

  function setPlaying(value) {
    playing = value;
    play.textContent = playing ? "Pause" : "Play";
    play.setAttribute("aria-pressed", String(playing));
    if (!playing) videos.forEach((video) => video.pause());
    else if (usable()[0]?.ended) lap(usable());
  }

  function step(by) {
    const leader = usable()[0];
    if (!leader) return;
    const frame = ((leader.ended ? frames - 1 : frameOf(leader)) + by + frames) % frames;
    setPlaying(false);
    // The middle of the frame, where rounding cannot show its neighbour.
    for (const video of usable()) video.currentTime = (frame + 0.5) / fps;
  }

  for (const video of videos) { video.loop = false; video.autoplay = false; video.pause(); }
  play.onclick = () => setPlaying(!playing);
  document.getElementById("back").onclick = () => step(-1);
  document.getElementById("forward").onclick = () => step(1);
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("button, select, summary, input") || event.ctrlKey || event.metaKey || event.altKey) return;
    const action = { " ": () => setPlaying(!playing), ArrowLeft: () => step(-1), ArrowRight: () => step(1) }[event.key];
    if (action) { event.preventDefault(); action(); }
  });

  const ready = videos.map((video) => new Promise((done) => {
    if (video.readyState >= 3 || video.error) done();
    else ["canplay", "error"].forEach((name) => video.addEventListener(name, done, { once: true }));
  }));
  Promise.all(ready).then(() => { setPlaying(playing); lap(usable()); tick(); });
})();
