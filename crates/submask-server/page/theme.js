// Light or dark, before anything is drawn. The switch itself is in themes.js.
try {
  const theme = localStorage.getItem("submask-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Where nothing may be stored, the system's choice holds.
}
