// Keeps what the page loaded, so that it works offline. VERSION and FILES stand above: a hash of all files, and those
// that are fetched at once; the others are kept when they are first asked for.

const CACHE = `tinyslm ${self.registration.scope} `;

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE + VERSION).then((cache) => cache.addAll(FILES)));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    (async () => {
      const old = (await caches.keys()).filter((name) => name.startsWith(CACHE) && name !== CACHE + VERSION);
      await Promise.all(old.map((name) => caches.delete(name)));
      await self.clients.claim();
    })(),
  );
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && request.url.startsWith(self.registration.scope)) event.respondWith(answer(event));
});

async function answer(event) {
  const cache = await caches.open(CACHE + VERSION);
  const { request } = event;
  const found = await cache.match(request, { ignoreSearch: true });
  if (found) return found;
  const response = await fetch(request);
  if (response.status === 200 && response.type === "basic") {
    const copy = response.clone();
    event.waitUntil(cache.put(request, copy).catch(() => {})); // full: it is fetched again next time
  }
  return response;
}
