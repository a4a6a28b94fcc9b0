// Asking the server: its own API, and the two protocols that clients use.

/** The bearer token, if the server asks for one; it is forgotten with the tab. */
let token = sessionStorage.getItem("apus-token") ?? "";
export function useToken(text) { token = text; sessionStorage.setItem("apus-token", text); }

export class ServerError extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

// The page may stand below a path of a larger server: it is found from this file's own address.
const root = new URL("../", import.meta.url);

export async function send(path, body) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  if (body !== undefined) headers["content-type"] = "application/json";
  const response = await fetch(new URL(path, root), body === undefined ? { headers } : { method: "POST", headers, body });
  const text = await response.text();
  let value = null;
  // TensorFlow Serving's JSON has NaN and Infinity, which JSON proper has not.
  try { value = JSON.parse(text); } catch {
    try { value = JSON.parse(text.replace(/(^|[\s,:[])(-?Infinity|NaN)(?=[\s,\]}]|$)/g, '$1"$2"')); } catch { /* not JSON */ }
  }
  if (!response.ok) throw new ServerError(response.status, value?.error ?? (text.slice(0, 500) || response.statusText));
  return { value, text, id: response.headers.get("x-request-id") };
}

export async function ask(path) { return (await send(path)).value; }
export function address(path) { return new URL(path, root).href; }
