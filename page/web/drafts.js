// Texts that are not saved on the device yet, in this browser's database: they survive a crash.

/** @typedef {{path: string, text: string, etag: string | null, base: string}} Draft */

const STORE = "drafts";

/** @type {Promise<IDBDatabase | null>} */
const database = new Promise((resolve) => {
  let opening;
  try {
    opening = indexedDB.open("further-link", 1);
  } catch {
    resolve(null);
    return;
  }
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "path" });
  opening.onsuccess = () => resolve(opening.result);
  // Forbidden in this browser: there are no drafts then, and everything else works.
  opening.onerror = () => resolve(null);
});

/**
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<T>} act
 * @returns {Promise<T | undefined>}
 */
async function within(mode, act) {
  const open = await database;
  if (!open) return undefined;
  return new Promise((resolve) => {
    const transaction = open.transaction(STORE, mode);
    const request = act(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onerror = transaction.onabort = () => resolve(undefined);
  });
}

/** @param {Draft} draft */
export const keepDraft = (draft) => within("readwrite", (store) => store.put(draft));
/** @param {string} path */
export const forgetDraft = (path) => within("readwrite", (store) => store.delete(path));
/** @returns {Promise<string[]>} The paths of all. */
export const drafts = async () => /** @type {string[]} */ (await within("readonly", (store) => store.getAllKeys()) ?? []);
/** @param {string} path @returns {Promise<Draft | undefined>} */
export const draftOf = (path) => within("readonly", (store) => store.get(path));
