// Searching by a picture or a clip: chosen, dropped on the page, or pasted. The files stay in this tab: an address cannot
// carry them, so going back works until the page is closed.
const isMedia = (file) => /^(image|video)\//.test(file.type) || /\.(mkv|avi|ts|webp|avif|heic)$/i.test(file.name);

/** Watch for files. `go(name, state)` shows the results of one, whose history entry keeps `state`. */
export function openFiles({ go }) {
  const kept = new Map(), overlay = document.querySelector("#drop"), input = document.querySelector("#file");
  const status = document.querySelector("#status");
  let depth = 0;

  function take(file) {
    if (!file) return;
    if (!isMedia(file)) {
      status.textContent = `${file.name} is neither a picture nor a video.`;
      return;
    }
    const state = { file: `${Date.now()}-${kept.size}` };
    kept.set(state.file, file);
    go(file.name || "pasted picture", state);
  }
  function cover(is) {
    depth = is ? depth : 0;
    overlay.hidden = !is;
  }

  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  input.addEventListener("change", () => {
    take(input.files[0]);
    input.value = "";
  });
  document.addEventListener("dragenter", (event) => hasFiles(event) && ++depth && cover(true));
  document.addEventListener("dragleave", (event) => hasFiles(event) && --depth <= 0 && cover(false));
  document.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    cover(false);
    take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => event.clipboardData?.files.length && take(event.clipboardData.files[0]));

  return {
    /** The file of a history entry, or null. */
    of: (state) => kept.get(state?.file) ?? null,
    /** A page that was loaded anew has no files. */
    forget: () => history.state?.file && history.replaceState(null, "", location.href),
  };
}
