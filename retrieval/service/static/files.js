// Searching by a picture or a clip: chosen, dropped on the page, or pasted.
const isMedia = (file) => /^(image|video)\//.test(file.type) || /\.(mkv|avi|ts|webp|avif|heic)$/i.test(file.name);

/** Watch for files: `search(file)` is called for each that may be a picture or a video, `refuse(text)` for others. */
export function openFiles({ search, refuse }) {
  const overlay = document.querySelector("#drop"), input = document.querySelector("#file");
  let depth = 0; // of the elements that a dragged file is over
  const take = (file) => file && (isMedia(file) ? search(file) : refuse(`This is neither a picture nor a video: ${file.name}`));
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  function over(event, step) {
    if (!hasFiles(event)) return;
    depth = Math.max(0, depth + step);
    overlay.hidden = !depth;
  }

  input.addEventListener("change", () => {
    take(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("dragenter", (event) => over(event, 1));
  document.addEventListener("dragleave", (event) => over(event, -1));
  document.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth = 0;
    overlay.hidden = true;
    take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => event.clipboardData?.files.length && take(event.clipboardData.files[0]));
}
