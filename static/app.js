/* What a page does better with a script; every page works without this file. No framework, no globals. */
(() => {
  "use strict";

  const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const BROWSER_ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone || "";

  /* Times: the words of blueprints/pages.py, kept up to date. */
  function distance(seconds) {
    const far = Math.abs(seconds);
    if (far < 5) return seconds > 0 ? "in a moment" : "just now";
    const steps = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [14 * 86400, 86400, "day"]];
    for (const [limit, unit, word] of steps) {
      if (far >= limit) continue;
      const amount = Math.floor(far / unit);
      const words = `${amount} ${word}${word === "day" && amount > 1 ? "s" : ""}`;
      return seconds > 0 ? `in ${words}` : `${words} ago`;
    }
    return null;
  }

  function exact(moment) {
    const clock = [moment.getHours(), moment.getMinutes(), moment.getSeconds()];
    const time = clock.map((part) => String(part).padStart(2, "0")).join(":");
    return `${moment.getDate()} ${MONTHS[moment.getMonth()]} ${moment.getFullYear()}, ${time}`;
  }

  function tell(element) {
    const moment = new Date(element.dateTime);
    const seconds = Math.round((moment - Date.now()) / 1000);
    const words = seconds <= 0 && "ahead" in element.dataset ? "now" : distance(seconds);
    if (words !== null && element.textContent !== words) element.textContent = words;
    if (element.dataset.when === "browser") element.title = exact(moment);
  }

  const tellAll = () => document.querySelectorAll("time[data-when]").forEach(tell);

  /* Fields that carry the browser's time zone, and selects that may propose it. */
  function offerZone(root) {
    root.querySelectorAll('input[type="hidden"][name="time_zone"]').forEach((field) => {
      if (!field.value) field.value = BROWSER_ZONE;
    });
    root.querySelectorAll("[data-browser-zone-name]").forEach((element) => {
      element.textContent = BROWSER_ZONE;
    });
  }

  /* Copying: data-copy names the field whose value is meant. */
  async function copy(button) {
    const field = document.querySelector(button.dataset.copy);
    const words = button.querySelector("[data-copy-words]") || button;
    try {
      await navigator.clipboard.writeText(field.value);
    } catch {
      field.focus();
      field.select();
      if (!document.execCommand("copy")) return;
    }
    const before = button.dataset.words || words.textContent;
    button.dataset.words = before;
    words.textContent = "Copied";
    announce(`Copied: ${field.labels?.[0]?.textContent.trim() || "the value"}`);
    setTimeout(() => { words.textContent = before; }, 2000);
  }

  /* A word for screen readers that shows nothing. */
  function announce(words) {
    let place = document.getElementById("announcements");
    if (!place) {
      place = Object.assign(document.createElement("div"), { id: "announcements", className: "sr-only" });
      place.setAttribute("role", "status");
      document.getElementById("main")?.append(place);
    }
    place.textContent = words;
  }

  /* The confirmation page as a dialog: the server's own words, fetched when they are asked for. */
  async function ask(link) {
    const reply = await fetch(link.href, { headers: { Accept: "text/html" } });
    const text = await reply.text();
    const panel = new DOMParser().parseFromString(text, "text/html").getElementById("confirm");
    if (!reply.ok || reply.redirected || !panel) throw new Error("no confirmation page");
    const dialog = document.createElement("dialog");
    dialog.className = "ask";
    dialog.setAttribute("aria-labelledby", "confirm-title");
    dialog.append(document.importNode(panel, true));
    const [title, below] = [dialog.querySelector("h1"), document.createElement("h2")];
    below.id = title.id;
    below.append(...title.childNodes);
    title.replaceWith(below); // the page behind has its own first heading
    dialog.addEventListener("close", () => { dialog.remove(); link.focus(); });
    dialog.addEventListener("click", (event) => {
      const close = event.target === dialog || event.target.closest("[data-close]");
      if (close) { event.preventDefault(); dialog.close(); }
    });
    document.body.append(dialog);
    window.htmx?.process(dialog);
    dialog.showModal();
  }

  function onClick(event) {
    const target = event.target.closest("[data-copy], [data-dismiss], a[data-confirm]");
    if (!target) return;
    if (target.matches("[data-copy]")) copy(target);
    if (target.matches("[data-dismiss]")) target.closest("[data-flash]").remove();
    const plain = !(event.metaKey || event.ctrlKey || event.shiftKey || event.button);
    if (target.matches("a[data-confirm]") && plain) {
      event.preventDefault();
      ask(target).catch(() => { location.href = target.href; });
    }
  }

  /* Menus close on Escape and when something else is used. */
  function closeMenus(except) {
    document.querySelectorAll("details.menu[open]").forEach((menu) => {
      if (!except || !menu.contains(except)) menu.open = false;
    });
  }

  function onKey(event) {
    if (event.key !== "Escape") return;
    const menu = document.querySelector("details.menu[open]");
    if (menu) { menu.open = false; menu.querySelector("summary").focus(); }
  }

  /* Toasts that only confirm go by themselves, unless somebody is at them; anything else stays. */
  function letGo(flash) {
    if (flash.dataset.flash === "error" || flash.dataset.timed) return;
    flash.dataset.timed = "yes";
    const wait = () => setTimeout(() => {
      if (flash.matches(":hover, :focus-within")) wait();
      else flash.remove();
    }, 8000);
    wait();
  }

  /* Forms with unsaved changes: a hint beside the button, and the browser's question on leaving. */
  const dirty = new Set();

  function onInput(event) {
    const form = event.target.closest?.("form[data-dirty-hint]");
    if (!form || dirty.has(form)) return;
    dirty.add(form);
    form.querySelectorAll("[data-dirty-words]").forEach((words) => { words.hidden = false; });
  }

  const unsaved = () => [...dirty].some((form) => form.isConnected);

  function onLeave(event) {
    if (unsaved()) event.preventDefault();
  }

  /* What is typed or chosen while other fields are on their way stays so in the fields that come. */
  const asked = new WeakMap();
  const controls = (part) => [...part.querySelectorAll("input[name]:not([type=hidden]), select[name], textarea[name]")];
  const valueOf = (control) => (control.type === "checkbox" ? control.checked : control.value);
  let late = [];

  function onAsk(event) {
    const part = event.detail.target;
    if (part?.id === "fields") asked.set(part, new Map(controls(part).map((control) => [control.name, valueOf(control)])));
  }

  function onArrival(event) {
    const known = asked.get(event.detail.target);
    const changed = (control) => known.has(control.name) && known.get(control.name) !== valueOf(control);
    late = known ? controls(event.detail.target).filter(changed).map((control) => [control.name, valueOf(control)]) : [];
  }

  function onSettled() {
    const [fields, typed] = [document.getElementById("fields"), late];
    late = [];
    typed.forEach(([name, value]) => {
      const control = fields?.querySelector(`[name="${CSS.escape(name)}"]`);
      if (!control) return;
      if (control.type === "checkbox") control.checked = value;
      else control.value = value;
      if (control.matches("select")) control.dispatchEvent(new Event("change", { bubbles: true }));
    });
  }

  /* Something comes or goes above what somebody is typing into: that stays where it is on the screen. */
  let held = null;

  function onSwap(event) {
    const [at, part] = [document.activeElement, event.detail.target];
    const typing = at?.matches("input, select, textarea") && part?.matches?.("[data-keep-place]") && !part.contains(at);
    held = typing ? [at, at.getBoundingClientRect().top] : null;
  }

  function onSwapped() {
    if (held) scrollBy({ top: held[0].getBoundingClientRect().top - held[1], behavior: "instant" });
    held = null;
  }

  /* What a press brought is scrolled to, with the button, as far as it is out of sight. */
  function onResult(event) {
    event.target.closest?.("[data-show-result]")?.scrollIntoView({ block: "nearest", behavior: "instant" });
  }

  /* The session ended: htmx would go to the sign-in page, which nobody with unsaved changes asked for. */
  function onAnswer(event) {
    const { xhr } = event.detail;
    if (xhr.status !== 401 || !unsaved()) return;
    event.preventDefault();
    signedOut(xhr.getResponseHeader("HX-Redirect"));
  }

  function signedOut(address) {
    const link = Object.assign(document.createElement("a"), { href: address || "/login", target: "_blank", rel: "noopener" });
    link.textContent = "Sign in in another window";
    warn("signedOut", "You are signed out. What you typed is still here.", link, ", then press the button again.");
  }

  /* A form that took long to fill in: see first whether its session still stands, and take a fresh form token along. */
  async function lookAhead(form, submitter) {
    if ("waiting" in form.dataset) return;
    form.dataset.waiting = "";
    submitter?.classList.add("at-work");
    const headers = { "HX-Request": "true", "HX-Current-URL": location.href };
    try {
      const answer = await fetch(form.dataset.lookAhead, { headers });
      if (answer.ok) {
        form.elements.csrf_token.value = await answer.text();
        form.dataset.seen = "";
        form.requestSubmit(submitter);
      } else if (answer.status === 401) signedOut(answer.headers.get("HX-Redirect"));
      else onNoAnswer();
    } catch {
      onNoAnswer();
    }
    delete form.dataset.waiting;
    if (!("seen" in form.dataset)) submitter?.classList.remove("at-work");
    delete form.dataset.seen;
  }

  /* The pressed button of a form that leads away shows that it is at work; what htmx sends, htmx marks. */
  function onSubmit(event) {
    const form = event.target;
    if ("lookAhead" in form.dataset && !("seen" in form.dataset) && !event.defaultPrevented) {
      event.preventDefault();
      lookAhead(form, event.submitter);
      return;
    }
    dirty.delete(form);
    if (!event.defaultPrevented && !form.target) event.submitter?.classList.add("at-work");
  }

  /* A request that got no answer at all. */
  function onNoAnswer() {
    warn("noAnswer", "Cardkey does not answer. Check your network; what you typed is still here.");
  }

  /* A toast that stays; one of a kind. */
  function warn(kind, text, link, rest = "") {
    const place = document.getElementById("flashes");
    if (!place || [...place.children].some((child) => kind in child.dataset)) return;
    const flash = document.createElement("div");
    flash.className = "flash bad";
    Object.assign(flash.dataset, { flash: "error", [kind]: "" });
    const words = document.createElement("p");
    words.append(text, ...(link ? [" ", link, rest] : []));
    const button = Object.assign(document.createElement("button"), { type: "button", className: "secondary" });
    button.textContent = "Dismiss";
    button.dataset.dismiss = "";
    flash.append(words, button);
    place.append(flash);
  }

  function prepare(root) {
    offerZone(root);
    tellAll();
    root.querySelectorAll("[data-flash]").forEach(letGo);
    root.querySelector("[data-focus]")?.focus();
  }

  document.addEventListener("click", onClick);
  document.addEventListener("click", (event) => closeMenus(event.target));
  document.addEventListener("focusin", (event) => closeMenus(event.target));
  document.addEventListener("keydown", onKey);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches("#find-connection")) event.preventDefault(); // it is found already
  });
  document.addEventListener("input", onInput);
  document.addEventListener("submit", onSubmit);
  window.addEventListener("pageshow", () => {
    document.querySelectorAll(".at-work").forEach((button) => button.classList.remove("at-work"));
  });
  window.addEventListener("beforeunload", onLeave);
  document.addEventListener("htmx:load", (event) => prepare(event.detail.elt));
  document.addEventListener("htmx:beforeOnLoad", onAnswer);
  document.addEventListener("htmx:beforeRequest", onAsk);
  document.addEventListener("htmx:beforeSwap", onArrival);
  document.addEventListener("htmx:beforeSwap", onSwap);
  document.addEventListener("htmx:afterSwap", onSwapped);
  document.addEventListener("htmx:afterSettle", onSettled);
  document.addEventListener("htmx:afterSettle", onResult);
  document.addEventListener("htmx:sendError", onNoAnswer);
  document.addEventListener("htmx:afterSwap", () => document.querySelectorAll("[data-flash]").forEach(letGo));
  setInterval(tellAll, 1000);
  prepare(document);
  document.querySelector(".places [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
})();
