// Before anything is drawn: light or dark, as chosen, else as the system has it.
(function () {
  var want = 'system';
  try {
    want = localStorage.getItem('foreshock.theme') || 'system';
  } catch (e) {
    // Storage may be shut off; the system's choice counts then.
  }
  var dark = want === 'dark' || (want === 'system' && matchMedia('(prefers-color-scheme: dark)').matches);
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
})();
