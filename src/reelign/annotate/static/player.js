// Any number of videos that play as one. The longest leads. Browsers let videos drift apart, so each lap begins
// together, and within a lap the speed of a video that is ahead or behind is bent until it is in step.
const STRAYED = 0.75; // in frames of the fastest; further than this is mended by a jump
const BEND = 0.5;

export class Player {
  videos = [];
  rates = [];
  speed = 1;
  loop = true;
  playing = false;
  #starting = 0;

  constructor(onTick) {
    const tick = () => { if (this.videos.length) { this.#keepStep(); onTick(this); } requestAnimationFrame(tick); };
    requestAnimationFrame(tick);
  }

  // Take other videos; rates are their frames per second, 0 where unknown.
  async show(videos, rates) {
    this.videos.forEach((video) => video.pause());
    this.videos = videos;
    this.rates = rates.map((rate) => rate || 30);
    for (const video of videos) video.loop = false;
    const mine = ++this.#starting;
    await Promise.all(videos.map(loaded));
    if (mine === this.#starting) await this.#startAt(0);
  }

  get leader() {
    return this.videos.reduce((one, other) => (lasts(other) > lasts(one) ? other : one));
  }

  get duration() { return this.videos.length ? lasts(this.leader) : 0; }
  get time() { return this.videos.length ? this.leader.currentTime : 0; }
  get frame() { return 1 / Math.max(...this.rates); }

  // Which frame a video shows, from 0.
  frameOf(index) {
    const video = this.videos[index];
    const last = Math.max(0, Math.round(lasts(video) * this.rates[index]) - 1);
    return Math.min(last, Math.floor(video.currentTime * this.rates[index] + 1e-3));
  }

  toggle() { this.playing ? this.pause() : this.play(); }

  play() {
    this.playing = true;
    this.#startAt(this.time >= this.duration - this.frame / 2 ? 0 : this.time);
  }

  pause() {
    this.playing = false;
    this.#starting += 1;
    this.videos.forEach((video) => video.pause());
    this.seek(this.time);
  }

  step(by) {
    const frames = Math.max(1, Math.round(this.duration / this.frame));
    const now = Math.min(frames - 1, Math.floor(this.time / this.frame + 1e-3));
    this.playing = false;
    this.#starting += 1;
    this.videos.forEach((video) => video.pause());
    // The middle of the frame, where rounding cannot show its neighbour.
    this.seek((((now + by) % frames) + frames + 0.5) % frames * this.frame);
  }

  // Every video at that time; one that is over holds its last frame.
  seek(time) {
    this.videos.forEach((video, index) => {
      const end = lasts(video) - 0.5 / this.rates[index];
      const target = Math.max(0, Math.min(time, end));
      if (Math.abs(video.currentTime - target) > 1e-4) video.currentTime = target;
    });
  }

  async #startAt(time) {
    const mine = ++this.#starting;
    this.videos.forEach((video) => video.pause());
    this.seek(time);
    await Promise.all(this.videos.map(settled));
    if (mine !== this.#starting || !this.playing) return;
    for (const video of this.videos) {
      video.playbackRate = this.speed;
      if (video.currentTime < lasts(video) - this.frame) video.play().catch(() => {});
    }
    this.#starting = 0;
  }

  #keepStep() {
    if (!this.playing || this.#starting) return;
    const leader = this.leader;
    if (leader.ended || leader.currentTime >= lasts(leader)) {
      if (this.loop) this.#startAt(0); else this.pause();
      return;
    }
    if (leader.paused) leader.play().catch(() => {});
    leader.playbackRate = this.speed;
    for (const video of this.videos) {
      if (video === leader || video.ended || video.seeking || video.error) continue;
      if (leader.currentTime >= lasts(video)) continue;
      const ahead = (video.currentTime - leader.currentTime) / this.frame;
      if (Math.abs(ahead) > STRAYED) video.currentTime = leader.currentTime;
      else video.playbackRate = this.speed * (1 - BEND * Math.max(-0.5, Math.min(0.5, ahead)));
      if (video.paused) video.play().catch(() => {});
    }
  }
}

const lasts = (video) => (Number.isFinite(video.duration) ? video.duration : 0);
const loaded = (video) => either(video, () => video.readyState >= 3, ["canplay"]);
const settled = (video) => either(video, () => !video.seeking, ["seeked"]);

function either(video, ready, names) {
  if (ready() || video.error) return Promise.resolve();
  return new Promise((done) => {
    for (const name of [...names, "error"]) video.addEventListener(name, done, { once: true });
  });
}
