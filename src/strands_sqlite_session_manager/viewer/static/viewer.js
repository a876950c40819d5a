// Comfort only: every page works without it.
"use strict";

// Keys: "/" goes to the search, "j" and "k" to the next and the previous thing on the page.
const things = () => [...document.querySelectorAll("a.next, article.message")];

function move(step) {
  const all = things();
  const current = all.findIndex((thing) => thing.contains(document.activeElement));
  let target = current + step;
  if (current < 0) {
    // The first one that is in sight.
    target = Math.max(0, all.findIndex((thing) => thing.getBoundingClientRect().top >= 0));
  }
  const thing = all[Math.min(Math.max(target, 0), all.length - 1)];
  if (thing) {
    thing.focus({ preventScroll: true });
    thing.scrollIntoView({ block: "nearest" });
  }
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, [contenteditable]");
  if (event.key === "Escape" && typing) {
    event.target.blur();
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) {
    return;
  }
  if (event.key === "/") {
    event.preventDefault();
    document.getElementById("find").select();
  } else if (event.key === "j") {
    move(1);
  } else if (event.key === "k") {
    move(-1);
  }
});

// Copying: a link that shows a text copies it instead, or shows it if the browser lets no page copy.
async function copy(element, reading) {
  // Of two clicks, the second one finds the word of the first.
  element.dataset.label ??= element.textContent;
  try {
    // Some browsers allow it only in the click itself, when the text is not there yet.
    if (window.ClipboardItem) {
      const blob = reading.then((text) => new Blob([text], { type: "text/plain" }));
      // If the browser refuses before the server does, nobody asks for it any more.
      blob.catch(() => {});
      await navigator.clipboard.write([new ClipboardItem({ "text/plain": blob })]);
    } else {
      await navigator.clipboard.writeText(await reading);
    }
    element.textContent = "Copied";
  } catch {
    if (element.href) {
      location.assign(element.href);
    }
    element.textContent = "Not allowed";
  }
  setTimeout(() => (element.textContent = element.dataset.label), 1200);
}

async function textOf(address) {
  const response = await fetch(address);
  if (!response.ok) {
    throw new Error(response.statusText);
  }
  return response.text();
}

for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = !navigator.clipboard;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button.copy");
  const link = event.target.closest("a.take");
  if (button) {
    copy(button, Promise.resolve(button.dataset.text));
  } else if (link && navigator.clipboard && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    copy(link, textOf(link.href));
  }
});

// Of many agents, the one that is shown is in sight, and that there are others: in a narrow window they are in one line.
const shownAgent = document.querySelector(".tabs [aria-current]");
if (shownAgent) {
  const tabs = shownAgent.parentElement;
  tabs.scrollTo(shownAgent.offsetLeft - tabs.offsetLeft - 40, shownAgent.offsetTop - tabs.offsetTop - 40);
}

// A link to a message opens what it is folded in.
function unfold() {
  const target = document.querySelector(":target");
  const fold = target && target.closest("details");
  if (fold) {
    fold.open = true;
    target.scrollIntoView();
  }
}
addEventListener("hashchange", unfold);
unfold();

// A long conversation is opened at its end, and so is what comes before a message: one who asks for that reads upwards.
const asked = new URLSearchParams(location.search);
const isLong = document.querySelector("a.older") && !asked.has("at") && !asked.has("after");
if (!location.hash && (isLong || asked.has("before"))) {
  document.getElementById("end").scrollIntoView({ block: "end" });
}

// How long ago something was stays right while the page is open.
function age(time) {
  const seconds = (Date.now() - Date.parse(time)) / 1000;
  for (const [unit, length] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (seconds >= length) {
      const count = Math.floor(seconds / length);
      return `${count.toLocaleString("en")} ${unit}${count === 1 ? "" : "s"} ago`;
    }
  }
  return "just now";
}

setInterval(() => {
  for (const time of document.querySelectorAll("time")) {
    if (/ ago$|^just now$/.test(time.textContent)) {
      time.textContent = age(time.dateTime);
    }
  }
}, 60_000);

// Following: the server says that something has changed, and the page is read again. What is on it stays, with its folds
// as they are, and only what differs from what was sent before is replaced.
const conversation = document.getElementById("conversation");
const status = document.getElementById("follow");
const sent = new Map();

function remember(root) {
  for (const element of root.querySelectorAll("#conversation > [id], [data-fresh]")) {
    sent.set(element.id, element.outerHTML);
  }
}

// What in an element can have the focus or be scrolled, and the element itself.
const places = (root) => [root, ...root.querySelectorAll("a, button, summary, [tabindex]")];

// Puts an element in the place of another, with the same folds open, scrolled as it was, and with the focus where it was.
function replace(old, element) {
  const folds = [...old.querySelectorAll("details")];
  [...element.querySelectorAll("details")].forEach((fold, index) => {
    fold.open = folds[index] ? folds[index].open : fold.open;
  });
  const [before, after] = [places(old), places(element)];
  const focused = before.indexOf(document.activeElement);
  const scrolled = before.map((place) => [place.scrollLeft, place.scrollTop]);
  old.replaceWith(element);
  after.slice(0, before.length).forEach((place, index) => place.scrollTo(...scrolled[index]));
  if (focused >= 0) {
    // A link may have moved to make room for another.
    const same = after.find((place) => place.href && place.href === before[focused].href);
    (same || after[focused] || element).focus({ preventScroll: true });
  }
}

function isNew(element) {
  const html = element.outerHTML;
  const differs = sent.get(element.id) !== html;
  sent.set(element.id, html);
  return differs;
}

// Takes over what was read anew. If that begins in the middle of the page, it goes on from the message `from`.
function update(fresh, list, from) {
  const end = document.getElementById("end");
  const atEnd = end.getBoundingClientRect().top <= innerHeight + 80;
  conversation.dataset.revision = list.dataset.revision || "";
  for (const element of fresh.querySelectorAll("[data-fresh]")) {
    const old = document.getElementById(element.id);
    if (old && isNew(element)) {
      replace(old, element);
    }
  }
  // Up to there the page knows more: of calls, whose results are folded under them, and of what the agent has.
  const start = from && fresh.getElementById(from.id);
  while (list.contains(start)) {
    list.firstElementChild.remove();
  }
  // Lines that have moved, and the note that there is nothing.
  const moving = from ? `:scope > #${from.id} ~ [id^=live-]` : ":scope > .empty, :scope > [id^=live-]";
  for (const old of conversation.querySelectorAll(moving)) {
    if (!old.id || !fresh.getElementById(old.id)) {
      old.remove();
    }
  }
  let before = from;
  for (const element of [...list.children]) {
    const old = element.id ? document.getElementById(element.id) : null;
    const differs = isNew(element);
    if (old && old.parentElement === conversation) {
      if (differs) {
        replace(old, element);
      }
      before = differs ? element : old;
    } else {
      if (before) {
        before.after(element);
      } else {
        conversation.prepend(element);
      }
      before = element;
    }
  }
  if (atEnd) {
    end.scrollIntoView({ block: "end" });
  }
}

// Reads the page again, from its first message on: what is on it may be told otherwise now. Of a page that has almost as
// many messages as can be read at once, the last ones are read again.
async function readAgain() {
  const number = (element) => Number(element.id.slice(2));
  const articles = [...conversation.querySelectorAll(":scope > article[id^=m-]")];
  const last = articles.at(-1);
  const first = conversation.querySelector("article[id^=m-], .result[id^=m-]");
  const isFull = last && number(last) - number(first) >= 400;
  const from = isFull ? articles.findLast((article) => number(article) <= number(last) - 100) : null;
  const page = new URL(location.href);
  for (const name of ["after", "before"]) {
    page.searchParams.delete(name);
  }
  page.searchParams.set("limit", 500);
  if (first) {
    page.searchParams.set("first", number(first));
  }
  const begin = from || first;
  if (begin && begin.id !== "m-0") {
    page.searchParams.set("after", number(begin) - 1);
  }
  const fresh = new DOMParser().parseFromString(await textOf(page), "text/html");
  const list = fresh.getElementById("conversation");
  // It may not go on from what is here, or not to the end: that is more than one page can have. Or it is another
  // conversation: the first agent of the session has come.
  const isSame = list && list.dataset.events === conversation.dataset.events;
  if (isSame && [from, last].every((known) => !known || list.querySelector(`#${known.id}`))) {
    update(fresh, list, from);
  } else {
    location.reload();
  }
}

function follow() {
  let source = null;
  let told = null; // The newest revision that the server has told of.
  let isReading = false;
  let lost = 0; // A timer from the first failure on: a connection that comes back at once was not lost.

  function say(text) {
    clearTimeout(lost);
    lost = 0;
    status.textContent = text;
    status.className = text === "Following" ? "quiet on" : "quiet";
  }

  async function catchUp() {
    if (isReading) {
      return;
    }
    isReading = true;
    while (source && told !== null && told !== conversation.dataset.revision) {
      const revision = told;
      try {
        await readAgain();
        say("Following");
        // What was read may be newer than what was told. If it is older, the server tells once more.
        told = told === revision ? null : told;
      } catch {
        say("Not connected");
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    }
    isReading = false;
  }

  function connect() {
    source = new EventSource(conversation.dataset.events);
    source.addEventListener("open", () => say("Following"));
    source.addEventListener("error", ({ target }) => {
      lost ||= setTimeout(() => say("Not connected"), 2000);
      // Browsers ask again by themselves, unless the server answered that it cannot tell.
      if (target.readyState === EventSource.CLOSED) {
        setTimeout(() => source === target && connect(), 3000);
      }
    });
    source.addEventListener("changed", (event) => {
      told = JSON.parse(event.data);
      if (told === "") {
        source.close();
        document.removeEventListener("visibilitychange", look);
        say("No longer there");
      } else {
        catchUp();
      }
    });
  }

  // Browsers open few connections to a server at once, so those who are not looked at make way.
  function look() {
    if (document.hidden && source) {
      source.close();
      source = null;
      say("");
    } else if (!document.hidden && !source) {
      connect();
    }
  }

  document.addEventListener("visibilitychange", look);
  look();
}

if (conversation && conversation.dataset.events) {
  remember(document);
  follow();
}
