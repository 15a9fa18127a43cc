// Opens a player page in Chromium, watches its <video> for a while, and writes what it saw as one line of JSON.
//
//   node play.mjs '{"url": "...", "seconds": 60, "screenshot": "/path.png", "target": 1300, "patience": 30}'
//
// With a target it watches for the given time from when thirty pictures in a row were not older than that many
// milliseconds, which has to come within `patience` seconds of the first picture; without one, from the first picture.
//
// The picture carries the encoder's clock as black and white blocks in its top row (see package stamp); the difference
// to this machine's clock, at the moment a picture is presented, is the latency from glass to glass.
import { createRequire } from 'node:module';

const job = JSON.parse(process.argv[2]);
const require = createRequire(process.env.E2E_NODE_MODULES + '/');
const { chromium } = require('playwright-core');

const browser = await chromium.launch({
  executablePath: process.env.E2E_CHROMIUM || '/usr/bin/chromium',
  headless: true,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--autoplay-policy=no-user-gesture-required',
    '--disable-background-timer-throttling', '--disable-renderer-backgrounding',
  ],
});

// watch runs in the page. Times are milliseconds of the wall clock.
function watch(target) {
  const BLOCK = 16, BITS = 40;
  const seen = { frames: [], events: [], unread: 0, started: 0, settled: 0 };
  let timely = 0;
  window.__seen = seen;
  const canvas = document.createElement('canvas');
  canvas.width = BLOCK * BITS;
  canvas.height = BLOCK;
  const paint = canvas.getContext('2d', { willReadFrequently: true });

  function read(video) {
    paint.drawImage(video, 0, 0, BLOCK * BITS, BLOCK, 0, 0, BLOCK * BITS, BLOCK);
    const row = paint.getImageData(0, BLOCK / 2, BLOCK * BITS, 1).data;
    const bytes = [0, 0, 0, 0, 0];
    for (let i = 0; i < BITS; i++) {
      const luma = row[4 * (i * BLOCK + BLOCK / 2)];
      bytes[i >> 3] = bytes[i >> 3] * 2 + (luma > 128 ? 1 : 0);
    }
    if ((bytes[0] ^ bytes[1] ^ bytes[2] ^ bytes[3] ^ 0x5a) !== bytes[4]) return null;
    return ((bytes[0] * 256 + bytes[1]) * 256 + bytes[2]) * 256 + bytes[3];
  }

  function attach(video) {
    for (const name of ['waiting', 'stalled', 'playing', 'pause', 'error', 'ended', 'seeking']) {
      video.addEventListener(name, () => seen.events.push({ name, at: Date.now(), time: video.currentTime }));
    }
    const frame = () => {
      const now = Date.now();
      const stamp = read(video);
      if (stamp === null) seen.unread++;
      // The stamp is the clock modulo 2^32.
      const latency = stamp === null ? null : (now - stamp) % 4294967296;
      if (!seen.started) seen.started = now;
      timely = target && (latency === null || latency > target) ? 0 : timely + 1;
      if (!seen.settled && (!target || timely >= 30)) seen.settled = target ? now : seen.started;
      seen.frames.push([now, latency, Math.round(video.currentTime * 1000)]);
      video.requestVideoFrameCallback(frame);
    };
    video.requestVideoFrameCallback(frame);
  }

  const look = setInterval(() => {
    const video = document.querySelector('video');
    if (!video) return;
    clearInterval(look);
    video.muted = true;
    attach(video);
    video.play().catch(() => {}); // the page may not have a source yet; it plays by itself then
  }, 20);
}

// until asks the page until the expression is true. (page.waitForFunction would need eval, which the page's own
// Content-Security-Policy forbids.)
async function until(page, expression, seconds) {
  const deadline = Date.now() + seconds * 1000;
  while (!(await page.evaluate(expression))) {
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s: ${expression}`);
    await page.waitForTimeout(50);
  }
}

const out = { console: [], failed: [], requests: 0 };
try {
  const page = await browser.newPage({ viewport: { width: 1000, height: 700 } });
  page.on('console', (m) => { if (['error', 'warning'].includes(m.type())) out.console.push(m.text()); });
  page.on('pageerror', (e) => out.console.push(String(e)));
  page.on('request', () => out.requests++);
  page.on('response', (r) => { if (r.status() >= 400) out.failed.push(`${r.status()} ${r.url()}`); });
  await page.addInitScript(`(${watch})(${job.target || 0})`);
  out.opened = Date.now();
  await page.goto(job.url, { waitUntil: 'domcontentloaded' });
  await until(page, 'window.__seen.started > 0', job.startTimeout || 20);
  process.stderr.write('playing\n');
  await until(page, 'window.__seen.settled > 0', job.patience || 30).catch((e) => { out.late = String(e); });
  if (!out.late) await until(page, `Date.now() - window.__seen.settled > ${job.seconds * 1000}`, job.seconds + 30);
  Object.assign(out, await page.evaluate('window.__seen'));
  out.video = await page.evaluate(`(() => {
    const v = document.querySelector('video'), q = v.getVideoPlaybackQuality();
    return { currentTime: v.currentTime, paused: v.paused, width: v.videoWidth, height: v.videoHeight, rate: v.playbackRate,
      page: window.klive, dropped: q.droppedVideoFrames, total: q.totalVideoFrames, audio: v.webkitAudioDecodedByteCount };
  })()`);
  if (job.screenshot) await page.screenshot({ path: job.screenshot });
} catch (e) {
  out.error = String(e);
  if (job.screenshot) {
    for (const page of browser.contexts().flatMap((c) => c.pages())) await page.screenshot({ path: job.screenshot }).catch(() => {});
  }
} finally {
  await browser.close();
}
process.stdout.write(JSON.stringify(out) + '\n');
