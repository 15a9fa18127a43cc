// The player page of a stream: plays index.m3u8 beside it, with hls.js where
// Media Source Extensions exist, else with what the browser plays itself.
//
// window.klive holds the figures the page shows, for tests and for the curious.
(() => {
  "use strict";

  const $ = (id) => document.getElementById(id);
  const video = $("video");
  const id = decodeURIComponent(location.pathname.split("/").filter(Boolean).pop() || "");
  const source = new URL("index.m3u8" + location.search, location.href).href;

  const klive = {
    stream: id,
    source,
    state: "waiting",     // waiting, starting, live, interrupted, ended
    engine: "none",       // hls.js, native, none
    latency: null,        // seconds behind the newest media, as the player estimates
    wallLatency: null,    // seconds between the wall clock and the picture's PROGRAM-DATE-TIME
    bitrate: null,        // bit/s of the chosen rendition
    width: 0,
    height: 0,
    buffer: 0,            // seconds of media ahead
    stalls: 0,
    playing: false,
    frames: 0,
    droppedFrames: 0,
    firstPicture: null,   // ms from opening the page to the first picture
    errors: [],           // the last few errors, newest last
  };
  window.klive = klive;

  let hls = null;
  let probe = 0;          // consecutive answers without a stream
  let timer = 0;
  let everPlayed = false;

  $("title").textContent = id;
  document.title = id + " – kLive";

  function show(state, notice) {
    klive.state = state;
    const words = { waiting: "Off air", starting: "Starting", live: "Live", interrupted: "Interrupted", ended: "Ended" };
    const badge = $("state");
    if (badge.dataset.state !== state) {
      badge.dataset.state = state;
      badge.textContent = words[state];
    }
    $("notice").hidden = !notice;
    if (notice && $("notice-text").textContent !== notice) {
      $("notice-text").textContent = notice;
    }
  }

  function note(kind, detail) {
    klive.errors.push({ at: Math.round(performance.now()), kind, detail: String(detail) });
    if (klive.errors.length > 20) klive.errors.shift();
  }

  // later calls look again after 1, 2, 3, … at most 8 s, moved by up to a
  // quarter so that pages that wait together do not ask together.
  function later(fn) {
    clearTimeout(timer);
    const seconds = Math.min(1 + probe, 8);
    probe += 1;
    timer = setTimeout(fn, seconds * 1000 * (0.875 + Math.random() / 4));
  }

  // look asks whether the stream is on air and starts to play it.
  async function look() {
    if (document.hidden && probe > 3) {
      later(look);
      return;
    }
    try {
      const answer = await fetch(source, { cache: "no-store" });
      if (answer.ok) {
        probe = 0;
        start();
        return;
      }
      if (answer.status === 401 || answer.status === 403) {
        note("playlist", answer.status);
        show("waiting", (await answer.text()).trim() || "This stream is not shown to everybody.");
        later(look);
        return;
      }
      if (answer.status !== 404) note("playlist", answer.status);
    } catch (err) {
      note("network", err);
      show("waiting", "The server does not answer. This page keeps trying.");
      later(look);
      return;
    }
    show("waiting", everPlayed ? "The stream has ended. This page starts again when it returns."
      : "Waiting for the stream. It starts here by itself.");
    later(look);
  }

  function stop() {
    if (hls) {
      hls.destroy();
      hls = null;
    }
  }

  function again(why, state, notice) {
    note("restart", why);
    stop();
    show(state || "interrupted", notice || "The stream was interrupted. Trying again…");
    later(look);
  }

  function start() {
    show("starting", "Starting…");
    if (window.Hls && Hls.isSupported()) {
      startWithScript();
      return;
    }
    klive.engine = video.canPlayType("application/vnd.apple.mpegurl") ? "native" : "none";
    if (klive.engine === "none") {
      show("waiting", "This browser cannot play HLS by itself, and this server was built without hls.js.");
      return;
    }
    $("engine").textContent = window.Hls ? "Played by the browser itself."
      : "Played by the browser itself: this server was built without hls.js, so the latency is higher.";
    video.src = source;
    play();
  }

  function startWithScript() {
    klive.engine = "hls.js";
    $("engine").textContent = "Played by hls.js " + Hls.version + " with low latency.";
    stop();
    // A playlist request may be held for three target durations before the
    // server says that nothing came; give up later than that.
    const patient = {
      maxTimeToFirstByteMs: 60000,
      maxLoadTimeMs: 60000,
      timeoutRetry: { maxNumRetry: 4, retryDelayMs: 0, maxRetryDelayMs: 0 },
      errorRetry: { maxNumRetry: 20, retryDelayMs: 500, maxRetryDelayMs: 2000 },
    };
    hls = new Hls({
      lowLatencyMode: true,
      backBufferLength: 30,
      maxLiveSyncPlaybackRate: 1, // see pace
      playlistLoadPolicy: { default: patient },
    });
    mend(hls);
    hls.on(Hls.Events.MANIFEST_PARSED, () => { listQualities(); play(); });
    hls.on(Hls.Events.LEVEL_SWITCHED, () => listQualities());
    hls.on(Hls.Events.LEVEL_UPDATED, (_, data) => {
      if (!data.details.live) show("ended", "");
    });
    hls.on(Hls.Events.ERROR, (_, data) => onError(data));
    hls.loadSource(source);
    hls.attachMedia(video);
  }

  // mend corrects what hls.js (1.6 and 1.7) believes of a segment it loads part
  // by part. It takes a segment for loaded when less than 200 ms of it are
  // missing, and then never asks for a last part shorter than that; and it waits
  // for ever for the parts before the one it began with. Without its tracker of
  // fragments, which is no part of its interface, nothing is changed.
  function mend(player) {
    const tracker = player.streamController && player.streamController.fragmentTracker;
    if (!tracker || typeof tracker.getState !== "function") return;
    const getState = tracker.getState.bind(tracker);
    const partsOf = (frag) => {
      const list = frag.type === "audio" ? player.audioTracks : player.levels;
      const details = list && list[frag.level] && list[frag.level].details;
      const other = frag.type === "audio" && player.audioStreamController && player.audioStreamController.getLevelDetails
        ? player.audioStreamController.getLevelDetails() : details;
      return ((other && other.partList) || []).filter((part) => part.fragment.sn === frag.sn);
    };
    tracker.getState = (frag) => {
      const state = getState(frag);
      if (state !== "OK" || !frag || frag.sn === "initSegment") return state;
      const parts = partsOf(frag);
      const first = parts.findIndex((part) => part.loaded);
      if (first < 0) return state;
      for (const part of parts.slice(0, first)) part.gap = true;
      return parts[parts.length - 1].loaded ? state : "PARTIAL";
    };
  }

  // follow jumps to the live edge when an interruption left the player far behind
  // it, or when it stands still although there is newer media.
  let stoodSince = 0;
  let lastTime = -1;
  let lastJump = 0;
  function follow() {
    const now = performance.now();
    if (!hls || video.paused || klive.state === "ended" || hls.liveSyncPosition === null) {
      stoodSince = now;
      return;
    }
    if (video.currentTime !== lastTime) {
      lastTime = video.currentTime;
      stoodSince = now;
    }
    const stands = now - stoodSince > 1500 && hls.liveSyncPosition > video.currentTime + 1;
    const far = hls.latency > (hls.targetLatency || 0) + 4;
    if ((stands || far) && everPlayed && now - lastJump > 4000) {
      lastJump = now;
      note("jump", (stands ? "stood still at " : "was behind at ") + video.currentTime.toFixed(2));
      video.currentTime = hls.liveSyncPosition;
    }
  }

  // pace plays a little faster while the player is behind where it should be.
  // hls.js does that only with more than a second in its buffer, which at low
  // latency it never has; but parts last a quarter of a second, so half of one
  // is enough.
  function pace() {
    if (!hls || video.paused || !Number.isFinite(hls.latency) || !hls.targetLatency) return;
    const behind = hls.latency - hls.targetLatency;
    const faster = video.playbackRate > 1 ? behind > 0.03 : behind > 0.15;
    const rate = faster && klive.state === "live" && klive.buffer > 0.5 ? (behind > 0.5 ? 1.1 : 1.05) : 1;
    if (video.playbackRate !== rate) video.playbackRate = rate;
  }

  let mediaErrors = 0;
  function onError(data) {
    note(data.details, (data.response && data.response.code) || (data.error && data.error.message) || "");
    if (!data.fatal) return;
    if (data.type === Hls.ErrorTypes.MEDIA_ERROR && mediaErrors < 3) {
      mediaErrors += 1;
      hls.recoverMediaError();
      return;
    }
    again(data.details);
  }

  function play() {
    video.play().catch((err) => {
      if (err.name === "NotAllowedError") show("starting", "Press Play to start.");
    });
  }

  function listQualities() {
    const select = $("quality");
    const levels = hls ? hls.levels : [];
    const name = (l) => [l.height ? l.height + "p" : "sound", Math.round(l.bitrate / 1000) + " kbit/s"].join(" · ");
    const wanted = ["Auto", ...levels.map(name)];
    if ([...select.options].map((o) => o.textContent).join() !== wanted.join()) {
      select.replaceChildren(...wanted.map((text, i) => new Option(text, String(i - 1))));
    }
    select.value = String(hls && !hls.autoLevelEnabled ? hls.currentLevel : -1);
    select.disabled = levels.length < 2;
  }

  // figures refreshes window.klive and what is shown of it, four times a second.
  function figures() {
    const level = hls && hls.levels[hls.currentLevel];
    klive.latency = hls && Number.isFinite(hls.latency) && hls.latency > 0 ? hls.latency : null;
    const date = hls ? hls.playingDate : null;
    klive.wallLatency = date ? (Date.now() - date.getTime()) / 1000 : null;
    klive.bitrate = level ? level.bitrate : null;
    klive.width = video.videoWidth;
    klive.height = video.videoHeight;
    klive.playing = !video.paused && !video.ended && video.readyState > 2;
    const b = video.buffered;
    klive.buffer = b.length ? Math.max(0, b.end(b.length - 1) - video.currentTime) : 0;
    if (video.getVideoPlaybackQuality) {
      const q = video.getVideoPlaybackQuality();
      klive.frames = q.totalVideoFrames;
      klive.droppedFrames = q.droppedVideoFrames;
    }
    const seconds = (n) => (n === null ? "–" : n.toFixed(2) + " s");
    $("latency").textContent = seconds(klive.latency);
    $("bitrate").textContent = klive.bitrate ? (klive.bitrate / 1e6).toFixed(2) + " Mbit/s" : "–";
    $("picture").textContent = klive.width ? klive.width + " × " + klive.height : "–";
    $("buffer").textContent = seconds(klive.buffer);
    $("stalls").textContent = String(klive.stalls);
    $("sound").textContent = video.muted ? "Unmute" : "Mute";
    $("sound").setAttribute("aria-pressed", String(video.muted));
    $("play").textContent = video.paused ? "Play" : "Pause";
    $("play").setAttribute("aria-pressed", String(video.paused));
  }

  video.addEventListener("playing", () => {
    if (klive.firstPicture === null) klive.firstPicture = Math.round(performance.now());
    everPlayed = true;
    probe = 0;
    mediaErrors = 0;
    show("live", "");
  });
  video.addEventListener("waiting", () => {
    if (!everPlayed || klive.state !== "live" || video.seeking) return;
    klive.stalls += 1;
    show("interrupted", "");
  });
  video.addEventListener("timeupdate", () => {
    if (klive.state === "interrupted" && !video.paused && video.readyState > 2) show("live", "");
  });
  video.addEventListener("ended", () => again("ended", "ended", "The stream has ended. This page starts again when it returns."));
  video.addEventListener("error", () => {
    if (klive.engine === "native") again(video.error ? video.error.message : "media error");
  });

  $("play").addEventListener("click", () => (video.paused ? play() : video.pause()));
  $("sound").addEventListener("click", () => { video.muted = !video.muted; figures(); });
  $("edge").addEventListener("click", () => {
    if (hls && hls.liveSyncPosition) video.currentTime = hls.liveSyncPosition;
    else if (video.seekable.length) video.currentTime = video.seekable.end(video.seekable.length - 1);
    play();
  });
  $("full").addEventListener("click", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else if ($("stage").requestFullscreen) $("stage").requestFullscreen();
    else if (video.webkitEnterFullscreen) video.webkitEnterFullscreen();
  });
  $("quality").addEventListener("change", (e) => { if (hls) hls.nextLevel = Number(e.target.value); });

  setInterval(() => { figures(); follow(); pace(); }, 250);
  look();
})();
