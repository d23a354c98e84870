// The files service of the device, as promises. API.md describes it.

import { t } from "./texts.js";

/** @typedef {{name: string, type: "file" | "directory" | "link" | "other", size: number, modified: number}} Entry */
/** @typedef {{path: string, entries: Entry[], truncated: boolean, unreadable?: number}} Listing */

/** Above this size an upload that breaks goes on where it was. */
const RESUMABLE = 1024 * 1024;
/** One after the other, without a byte that has arrived. */
const MOST_ATTEMPTS = 20;
/** Milliseconds between them. */
const PAUSE = 1500;

/** The device has refused something; the text says why. */
export class Refused extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** @param {string} path */
export function address(path) {
  return `/files/${path.split("/").map(encodeURIComponent).join("/")}`;
}

/** @param {Response} answer */
async function refusal(answer) {
  const text = await answer.text();
  let message = text;
  try {
    message = JSON.parse(text).error ?? text;
  } catch {
    // A sentence as it is.
  }
  return new Refused(answer.status, message || `${answer.status} ${answer.statusText}`);
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 */
async function request(path, options) {
  const answer = await fetch(path, { cache: "no-store", ...options }).catch(() => {
    throw new Refused(0, t("unreachable"));
  });
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

/** @param {string} path @returns {Promise<Listing>} */
export async function list(path) {
  return (await request(`/files?path=${encodeURIComponent(path)}`)).json();
}

/** False only where it surely is not. @param {string} path */
export async function isThere(path) {
  const answer = await fetch(address(path), { method: "HEAD", cache: "no-store" }).catch(() => null);
  return answer?.status !== 404;
}

/** @param {string} path */
export async function read(path) {
  const answer = await request(address(path));
  return { bytes: await answer.arrayBuffer(), etag: answer.headers.get("ETag") };
}

/**
 * Writes a file; answers its new ETag. Refused with 412: it is not what `etag` says, null being none at all.
 * @param {string} path
 * @param {BodyInit} body
 * @param {string | null | undefined} etag undefined: whatever is there is replaced
 */
export async function write(path, body, etag) {
  /** @type {Record<string, string>} */
  const headers = {};
  if (etag === null) headers["If-None-Match"] = "*";
  else if (etag !== undefined) headers["If-Match"] = etag;
  const answer = await request(`${address(path)}?parents=1`, { method: "PUT", body, headers });
  return answer.headers.get("ETag");
}

/**
 * Sends a file, and goes on after a broken connection.
 * @param {string} path
 * @param {Blob} blob
 * @param {(sent: number) => void} progress
 */
export async function upload(path, blob, progress) {
  if (blob.size <= RESUMABLE) {
    await write(path, blob, undefined);
    progress(blob.size);
    return;
  }
  const id = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0"));
  const url = `${address(path)}?parents=1&upload=${id.join("")}`;
  let offset = 0;
  let attempt = 1;
  const at = (/** @type {Response} */ answer) => {
    const there = Number(answer.headers.get("Upload-Offset") ?? 0);
    if (there > offset) attempt = 1;
    offset = there;
    progress(offset);
  };
  for (;; attempt += 1) {
    const headers = { "Upload-Offset": String(offset), "Upload-Length": String(blob.size) };
    const answer = await fetch(url, { method: "PUT", body: blob.slice(offset), headers, cache: "no-store" }).catch(() => null);
    if (answer?.ok) break;
    if (answer?.status === 409 && attempt < MOST_ATTEMPTS) {
      at(answer);
      continue;
    }
    if (answer) throw await refusal(answer);
    if (attempt >= MOST_ATTEMPTS) throw new Refused(0, t("unreachable"));
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
    const there = await fetch(url, { method: "HEAD", cache: "no-store" }).catch(() => null);
    if (there) at(there);
  }
  progress(blob.size);
}

/** @param {object} action */
async function act(action) {
  await request("/files", {
    method: "POST",
    body: JSON.stringify(action),
    headers: { "Content-Type": "application/json" },
  });
}

/** @param {string} path @param {string} to */
export const rename = (path, to) => act({ action: "rename", path, to });
/** @param {string} path */
export const makeDirectory = (path) => act({ action: "directory", path });
/** @param {string} path */
export const remove = (path) => act({ action: "remove", path });
