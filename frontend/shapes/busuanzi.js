// In the place of busuanzi's script: counts a visit of the page that it is in, and fills the elements that busuanzi's
// pages have. It sends the page's whole address, of which browsers send other sites only the host unless they are told.
(() => {
  const own = document.currentScript.src;
  const callback = "visitd_busuanzi";

  const show = (counts) => {
    for (const [what, count] of Object.entries(counts)) {
      for (const id of [`busuanzi_value_${what}`, `busuanzi_${what}`]) {
        const value = document.getElementById(id);
        if (value) value.textContent = count;
      }
      const container = document.getElementById(`busuanzi_container_${what}`);
      if (container) container.style.display = "inline";
    }
  };

  window[callback] = (counts) => {
    if (document.readyState !== "loading") show(counts);
    else document.addEventListener("DOMContentLoaded", () => show(counts), {once: true});
  };

  const asked = document.createElement("script");
  asked.referrerPolicy = "no-referrer-when-downgrade";
  asked.src = own.replace(/(busuanzi\/2\.3\/busuanzi\.pure\.mini\.js|js)(\?.*)?$/, `jsonp?callback=${callback}`);
  document.head.append(asked);
})();
