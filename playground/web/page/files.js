// The page's files: beside it over http, or inside it where the page is one file (see single_file in assemble.py).

/**
 * The content of a file of the page. Throws an Error that names the file where it cannot be read.
 *
 * @param {(bytes: number) => void} [report] Told how many bytes have come.
 */
export async function readFile(path, report) {
  const inside = document.querySelector(`script[data-file="${CSS.escape(path)}"]`);
  if (inside) return unpack(inside.textContent);
  const response = await fetch(path).catch((error) => Promise.reject(new Error(`${path}: ${error.message}`)));
  if (!response.ok) throw new Error(`${path}: ${response.status} ${response.statusText}`);
  if (!report) return response.arrayBuffer();
  const parts = [];
  let count = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { value, done } = await reader.read();
    if (done) return new Blob(parts).arrayBuffer();
    parts.push(value);
    report((count += value.length));
  }
}

export const readText = async (path) => new TextDecoder().decode(await readFile(path));

// A file inside the page is gzipped and in base64.
function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}
