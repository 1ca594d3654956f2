/* Authorize: the window it opens, and how the page behind it learns. Everything works without this file. */
(() => {
  "use strict";

  /* Messages carry an attempt's id and how it stands, nothing else; whoever hears one asks the server. */
  const ATTEMPT = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
  const STANDINGS = new Set(["pending", "succeeded", "denied", "failed", "expired", "interrupted"]);
  const LOOK_AFTER = [800, 2500, 6000];
  const LOOK_AGAIN_AFTER = 400;
  const CLOSE_AFTER = 400;
  const WINDOW = "cardkey-authorization-window";
  const SIZE = { width: 560, height: 720 };

  const channel = "BroadcastChannel" in window ? new BroadcastChannel("cardkey-authorization") : null;

  /* The page with the button. */
  let looking = false;
  let lookAgain = false;

  async function look() {
    const part = document.getElementById("authorization");
    if (!part || !part.dataset.latest || !window.htmx) return;
    if (looking) {
      lookAgain = true;
      return;
    }
    looking = true;
    try {
      await htmx.ajax("GET", part.dataset.latest, { source: part, target: part, swap: "outerHTML" });
    } finally {
      setTimeout(() => {
        looking = false;
        if (lookAgain) {
          lookAgain = false;
          look();
        }
      }, LOOK_AGAIN_AFTER);
    }
  }

  function openWindow() {
    const left = window.screenX + Math.max(0, (window.outerWidth - SIZE.width) / 2);
    const top = window.screenY + Math.max(0, (window.outerHeight - SIZE.height) / 2);
    const name = `cardkey-authorization-${Math.random().toString(36).slice(2)}`;
    const features = `popup,width=${SIZE.width},height=${SIZE.height},left=${Math.round(left)},top=${Math.round(top)}`;
    return window.open("", name, features) ? name : "";
  }

  /* Inside the click, or a pop-up blocker steps in; blocked, it goes on in this tab. */
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || !form.matches("form[data-authorize][data-popup]")) return;
    const name = openWindow();
    form.target = name;
    form.elements.namedItem("popup").value = name ? "1" : "0";
    if (name) LOOK_AFTER.forEach((wait) => setTimeout(look, wait));
  });

  channel?.addEventListener("message", ({ data }) => {
    if (typeof data !== "object" || data === null) return;
    if (!ATTEMPT.test(data.attempt) || !STANDINGS.has(data.standing)) return;
    look();
  });

  /* The window's page: tells how it stands, goes onward, and closes when all is well. */
  function tell(part) {
    const { attempt, standing } = part.dataset;
    channel?.postMessage({ attempt, standing });
    if ("window" in part.dataset) sessionStorage.setItem(WINDOW, "yes");
    const onward = part.querySelector("a[data-onward]");
    if (onward) {
      if ("window" in part.dataset) window.opener = null;
      location.replace(onward.href);
    } else if ("window" in part.dataset && standing === "succeeded") {
      setTimeout(() => window.close(), CLOSE_AFTER);
    }
  }

  document.addEventListener("click", (event) => {
    if (event.target instanceof Element && event.target.closest("[data-close-window]")) window.close();
  });

  const first = document.querySelector("section[data-attempt]");
  if (first) tell(first);
  document.addEventListener("htmx:load", ({ detail }) => {
    if (detail.elt.matches?.("section[data-attempt]")) tell(detail.elt);
  });

  /* A page that knows no attempt may stand in a window of ours all the same. */
  if (sessionStorage.getItem(WINDOW)) {
    document.querySelectorAll("[data-window-only]").forEach((button) => { button.hidden = false; });
  }

  /* An address with somebody's answer in it does not stay in the history. */
  if (document.querySelector("[data-clean-address]")) history.replaceState(null, "", location.pathname);
})();
