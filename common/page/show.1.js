// Shows counts in a page. count.js loads it where there is something to fill, and says the page after each visit.
const counter = new URL(".", import.meta.url);
const filled = new WeakMap(); // element → the view and the name of the page that it was filled for
let page;
let view = 0;
let waiting = false;

const nameOf = (element) => element.dataset.visits || page;

const write = (element, count) => {
  let text = count ?? "";
  try {
    text = text.toLocaleString(document.documentElement.lang);
  } catch {
    text = String(text); // the page names no language that the browser can read
  }
  element.hidden = text === "";
  element.textContent = text;
};

const ask = async (path, options) => {
  try {
    return await (await fetch(new URL(path, counter), options)).json();
  } catch {
    return {};
  }
};

const fill = async (elements, answer, countOf) => {
  const asked = view;
  const counts = countOf(await answer);
  if (asked === view) elements.forEach((element) => write(element, counts(element)));
};

const fillAll = () => {
  waiting = false;
  const elements = [...document.querySelectorAll("[data-visits], [data-visits-total]")].filter((element) => {
    const wanted = `${view} ${nameOf(element)}`;
    if (element.localName === "script" || filled.get(element) === wanted) return false;
    filled.set(element, wanted);
    if (!element.hasAttribute("aria-live")) element.setAttribute("aria-live", "polite");
    return true;
  });
  const totals = elements.filter((element) => "visitsTotal" in element.dataset);
  const named = elements.filter((element) => !totals.includes(element));
  const names = new Map(named.map((element) => [element, nameOf(element)]));
  if (named.length) {
    const body = JSON.stringify([...new Set(names.values())]);
    fill(named, ask("visits/query", {method: "POST", body}), (answer) => {
      const counts = new Map(Object.entries(answer.counts ?? {}));
      return (element) => counts.get(names.get(element));
    });
  }
  if (totals.length) fill(totals, ask("total"), (answer) => () => answer.total);
};

/** Fills what is there and what comes later with the counts, of this page where an element names no other one. */
export const show = (name) => {
  if (!view++) {
    new MutationObserver(() => {
      if (!waiting) setTimeout(fillAll, 50);
      waiting = true;
    }).observe(document, {childList: true, subtree: true, attributeFilter: ["data-visits"]});
  }
  page = name;
  fillAll();
};
