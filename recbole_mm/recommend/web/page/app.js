"use strict";

const NAMES = { text: "Plot", image: "Poster", credits: "Cast and crew", genre: "Genre", year: "Year", audio: "Sound",
  video: "Trailer", "co-watching": "Watched together" };
const THROUGH = { text: "its plot", image: "its poster", credits: "its cast and crew", genre: "its genres", year: "its year",
  audio: "its sound", video: "its trailer", "co-watching": "what others watched together" };
const STORED = "films-for-you";
const byId = (id) => document.getElementById(id);
const state = { about: null, rated: new Map(), genres: new Set(), asked: 0, searched: 0 };

// -- small things ----------------------------------------------------------------------------------------------------

function make(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(options)) {
    if (key === "class") node.className = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error || `The server answered ${answer.status}.`);
  return content;
}

function later(action, wait) {
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(action, wait); };
}

const named = (modality) => NAMES[modality] || modality[0].toUpperCase() + modality.slice(1);
const fullName = (film) => (film.year ? `${film.title} (${film.year})` : film.title);
const filmPath = (film) => `/api/films/${encodeURIComponent(film.item)}`;

function hue(text) {
  let sum = 7;
  for (const letter of text) sum = (sum * 31 + letter.codePointAt(0)) % 360;
  return sum;
}

function poster(film) {
  const box = make("div", { class: "poster", "aria-hidden": "true" });
  const card = () => {
    const inner = make("div", { class: "titlecard" }, make("b", {}, film.title),
      make("small", {}, [film.year, film.genres[0]].filter(Boolean).join(" · ")));
    inner.style.setProperty("--hue", hue(film.genres[0] || film.title));
    box.replaceChildren(inner);
  };
  if (film.poster) {
    box.append(make("img", { src: `${filmPath(film)}/poster`, alt: "", loading: "lazy", onerror: card }));
  } else {
    card();
  }
  return box;
}

function nameOf(film) {
  return make("p", { class: "name" }, film.title, film.year ? make("span", {}, ` ${film.year}`) : "");
}

// -- what the person said ----------------------------------------------------------------------------------------------

function voteButtons(film) {
  const button = (like, label) => make("button", {
    type: "button", class: like ? "yes" : "no", "data-item": film.item, "data-like": like,
    "aria-pressed": state.rated.get(film.item)?.like === like, "aria-label": `${label} ${fullName(film)}`,
    onclick: () => rate(film, like) }, label);
  return [button(true, "Like"), button(false, "Dislike")];
}

function rate(film, like) {
  if (state.rated.get(film.item)?.like === like) state.rated.delete(film.item);
  else state.rated.set(film.item, { film, like });
  changed();
}

function changed() {
  try {
    localStorage.setItem(STORED, JSON.stringify({ rated: [...state.rated.values()], genres: [...state.genres] }));
  } catch { /* a browser that keeps nothing */ }
  for (const button of document.querySelectorAll("button[data-item]")) {
    button.setAttribute("aria-pressed", state.rated.get(button.dataset.item)?.like === (button.dataset.like === "true"));
  }
  const chips = [...state.rated.values()].map(({ film, like }) => make("li", { class: like ? "chip" : "chip no" },
    `${like ? "" : "Not "}${fullName(film)}`,
    make("button", { type: "button", "aria-label": `Remove ${fullName(film)}`, onclick: () => {
      state.rated.delete(film.item); changed(); byId("search").focus(); } }, "×")));
  byId("mine").hidden = !chips.length;
  byId("mine-list").replaceChildren(...chips);
  recommend();
}

// -- the list ----------------------------------------------------------------------------------------------------------

function leaning() {
  const [left, right] = ends();
  const value = Number(byId("lean").value) / 10;
  if (!left || !value) return {};
  return value < 0 ? { [left]: -3 * value } : { [right]: 3 * value };
}

function ends() {
  const have = state.about.modalities;
  if (have.includes("text") && have.includes("image")) return ["text", "image"];
  return have.length > 1 ? have.slice(0, 2) : [];
}

async function recommend() {
  const asked = ++state.asked;
  const nothing = !state.rated.size && !state.genres.size;
  byId("empty").hidden = !nothing;
  byId("tuning").hidden = nothing;
  byId("legend").hidden = true;
  byId("problem").hidden = true;
  if (nothing) {
    byId("list").replaceChildren();
    byId("status").textContent = "";
    return;
  }
  const watched = [...state.rated.values()].map(({ film, like }) => ({ item: `id:${film.item}`, like }));
  try {
    const answer = await ask("/api/recommend", { watched, genres: [...state.genres], lean: leaning(), k: 12,
      diversity: Number(byId("diversity").value) / 10, explain: true });
    if (asked !== state.asked) return;
    byId("list").replaceChildren(...answer.recommendations.map(line));
    byId("status").textContent = `${answer.recommendations.length} films`;
    showLegend();
  } catch (error) {
    if (asked !== state.asked) return;
    byId("list").replaceChildren();
    byId("status").textContent = "";
    byId("problem").textContent = error.message;
    byId("problem").hidden = false;
  }
}

function line(found) {
  const { film, why } = found;
  return make("li", { "data-film": film.item },
    make("span", { class: "rank" }, String(found.rank)),
    poster(film),
    make("div", {}, nameOf(film), make("p", { class: "quiet" }, film.genres.join(", ")),
      make("p", { class: "reason" }, reason(why)), bar(why),
      make("div", { class: "buttons" }, ...voteButtons(film), make("button", { type: "button",
        "aria-label": `Films like ${fullName(film)}`, onclick: () => openSimilar(film) }, "Similar"))));
}

function reason(why) {
  const carried = why.films.filter((part) => part.contribution > 0);
  const list = (parts) => parts.slice(0, 2).map((part) => fullName(part.film)).join(" and ");
  const liked = carried.filter((part) => part.liked);
  const disliked = carried.filter((part) => !part.liked);
  const parts = [];
  if (liked.length) parts.push(`you liked ${list(liked)}`);
  if (disliked.length && (!liked.length || disliked[0].contribution > liked[0].contribution / 2)) {
    parts.push(`you did not like ${list(disliked.slice(0, 1))}`);
  }
  if (why.genres > 0 && (!parts.length || why.genres > (carried[0]?.contribution || 0) / 2)) parts.push("it is of a genre you picked");
  const most = Object.entries(why.modalities).sort((a, b) => b[1] - a[1])[0];
  const through = carried.length && most && most[1] > 0 ? ` Mostly through ${THROUGH[most[0]] || named(most[0]).toLowerCase()}.` : "";
  return parts.length ? `Because ${parts.join(", and ")}.${through}` : "Popular with everybody.";
}

function columns() {
  return [...state.about.modalities, "co-watching"];
}

function bar(why) {
  const parts = columns().map((name, index) => [name, Math.max(0, why.modalities[name] || 0), index]);
  const total = parts.reduce((sum, part) => sum + part[1], 0);
  if (!total || !why.films.length) return "";
  const said = parts.filter((part) => part[1] > 0).map((part) => `${named(part[0])} ${Math.round((100 * part[1]) / total)} %`);
  const box = make("div", { class: "bar", role: "img", "aria-label": said.join(", "), title: said.join(", ") });
  for (const [, value, index] of parts) {
    const piece = make("i", { class: `c${index % 7}` });
    piece.style.flexGrow = value / total;
    if (value > 0) box.append(piece);
  }
  return box;
}

function showLegend() {
  if (!state.rated.size) return;
  byId("legend").replaceChildren("What carries a film: ",
    ...columns().map((name, index) => make("span", {}, make("i", { class: `c${index % 7}` }), named(name))));
  byId("legend").hidden = false;
}

// -- searching ---------------------------------------------------------------------------------------------------------

async function search() {
  const asked = ++state.searched;
  const typed = byId("search").value.trim();
  try {
    const { films } = await ask(`/api/films?limit=8&q=${encodeURIComponent(typed)}`);
    if (asked !== state.searched) return;
    byId("found-title").textContent = !typed ? "Popular films" : films.length ? `Films like “${typed}”` : `No film like “${typed}”`;
    byId("found").replaceChildren(...films.map(card));
  } catch (error) {
    if (asked === state.searched) byId("found-title").textContent = error.message;
  }
}

function card(film) {
  return make("li", { class: "card" }, poster(film), nameOf(film), make("div", { class: "buttons" }, ...voteButtons(film)));
}

// -- similar films -----------------------------------------------------------------------------------------------------

async function openSimilar(film) {
  const choice = byId("similar-by");
  choice.replaceChildren(make("option", { value: "" }, "everything"),
    ...state.about.modalities.map((name) => make("option", { value: name }, named(name).toLowerCase())));
  byId("similar-title").textContent = `Like ${fullName(film)}`;
  const show = async () => {
    const by = choice.value ? `&by=${encodeURIComponent(choice.value)}` : "";
    try {
      const { similar } = await ask(`${filmPath(film)}/similar?k=12${by}`);
      byId("similar-list").replaceChildren(...similar.map((one) => card(one.film)));
    } catch (error) {
      byId("similar-list").replaceChildren(make("li", { class: "problem" }, error.message));
    }
  };
  choice.onchange = show;
  await show();
  byId("similar").showModal();
}

// -- begin -------------------------------------------------------------------------------------------------------------

function genreButton(name) {
  return make("button", { type: "button", "aria-pressed": state.genres.has(name), onclick: (event) => {
    if (!state.genres.delete(name)) state.genres.add(name);
    event.currentTarget.setAttribute("aria-pressed", state.genres.has(name));
    changed();
  } }, name);
}

function remember() {
  try {
    const kept = JSON.parse(localStorage.getItem(STORED)) || {};
    for (const one of kept.rated || []) state.rated.set(one.film.item, one);
    for (const name of kept.genres || []) if (state.about.genres.includes(name)) state.genres.add(name);
  } catch { /* nothing kept, or not ours */ }
}

async function begin() {
  try {
    state.about = await ask("/api/about");
  } catch (error) {
    byId("about").textContent = error.message;
    return;
  }
  const { films, dataset, model } = state.about;
  byId("about").textContent = `${films.toLocaleString("en")} films of “${dataset}”, ranked by ${model}`;
  remember();
  byId("genres").replaceChildren(...state.about.genres.map(genreButton));
  const [left, right] = ends();
  byId("lean-box").hidden = !left;
  if (left) {
    byId("lean-left").textContent = named(left);
    byId("lean-right").textContent = named(right);
    byId("lean").setAttribute("aria-label", `What should be alike: from ${named(left).toLowerCase()} to ${named(right).toLowerCase()}`);
  }
  const soon = later(recommend, 80);
  byId("lean").addEventListener("input", soon);
  byId("diversity").addEventListener("input", soon);
  byId("search").addEventListener("input", later(search, 120));
  byId("clear").addEventListener("click", () => { state.rated.clear(); changed(); byId("search").focus(); });
  byId("similar-close").addEventListener("click", () => byId("similar").close());
  await search();
  changed();
}

begin();
