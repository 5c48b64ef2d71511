// A site that counts its visits on the server. Run it: COUNTER=http://127.0.0.1:8000 PORT=8080 node visits.mjs
import {createServer} from "node:http";

const counter = process.env.COUNTER ?? "http://127.0.0.1:8000";

/** Records a visit of a page. Its count, the visit included; undefined: the counter does not say now, and the page goes without. */
async function visits(page) {
  try {
    const answer = await fetch(`${counter}/visit/${encodeURIComponent(page)}?count`, {method: "POST", signal: AbortSignal.timeout(1000)});
    return (await answer.json()).count;
  } catch {
    return undefined;
  }
}

const escaped = (text) => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);

createServer(async (request, answer) => {
  const page = decodeURIComponent(new URL(request.url, "http://site").pathname);
  const count = await visits(page);
  answer.setHeader("Content-Type", "text/html; charset=utf-8");
  answer.end(`<!doctype html><title>${escaped(page)}</title><h1>${escaped(page)}</h1>` +
    (count === undefined ? "" : `<p>Read ${count.toLocaleString("en")} times</p>`));
}).listen(process.env.PORT ?? 8080, "127.0.0.1");
