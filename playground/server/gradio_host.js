// The Gradio host: gives a view of playground/views its six names (see Host in playground/views/toolkit.js), made of what
// Gradio hands to the script of a `gr.HTML`, of the marks that it leaves on the component, and of what `tell_host` in
// markup.py says. Nothing else on the page's side of a view knows Gradio.

const FIRST_DATA_MS = 700; // the first data of a request may come so long after Gradio has stopped calling it pending
const RELEASE_MS = 2000; // Gradio drops requests while it cancels one, which takes at most this long

export function gradioHost(element, props, watch, trigger, server) {
  const container = element.closest(".html-container");
  const watchers = { busy: [], model: [], settings: [] };
  const own = { model: null, settings: null }; // the model that was chosen last; the sampling settings of the controls
  let busy = "idle";
  let pending = false; // whether Gradio calls the component pending
  let requests = 0; // how many there were so far
  let asked = null; // the value when the last one was made
  let settling = 0; // a timer: the request that waits is decided when it ends
  let releasing = 0; // a timer: requests are delayed until it ends
  let delayed = null; // the request that waits for it

  const notify = (name) => watchers[name].forEach((callback) => callback());

  function change(state) {
    clearTimeout(settling);
    busy = state;
    notify("busy");
  }

  // Gradio marks a component as pending from the request until its first data, and no longer when it is refused.
  function followPending() {
    if (container.classList.contains("pending") === pending) return;
    pending = !pending;
    if (pending) {
      requests++;
      asked = props.value;
      change("waiting");
    } else if (busy === "waiting") settling = setTimeout(settle, FIRST_DATA_MS);
  }

  function settle() {
    if (busy === "waiting") change(props.value === asked ? "refused" : "running");
  }

  function stop() {
    delayed = null;
    if (busy === "waiting" || busy === "running") {
      clearTimeout(releasing);
      releasing = setTimeout(release, RELEASE_MS);
    }
    change("stopped");
  }

  function release() {
    const request = delayed;
    clearTimeout(releasing);
    releasing = 0;
    delayed = null;
    if (request) trigger("submit", request);
  }

  // The last data of a request that is over may still be on its way to the component.
  function end() {
    const request = requests;
    release();
    const decide = () => {
      if (request !== requests) return;
      settle();
      if (busy === "running") change("idle");
    };
    requestAnimationFrame(() => requestAnimationFrame(decide));
  }

  const signals = {
    stop,
    end,
    model: ({ model }) => {
      stop();
      own.model = model;
      notify("model");
    },
    settings: ({ settings }) => {
      own.settings = settings;
      notify("settings");
    },
  };
  container.addEventListener("axion-host", ({ detail }) => signals[detail.signal](detail));
  new MutationObserver(followPending).observe(container, { attributeFilter: ["class"] });
  watch("value", () => {
    if (busy === "waiting" && props.value !== asked) change("running");
  });

  return {
    element,
    props: new Proxy(props, { get: (values, name) => (name in own ? own[name] : values[name]) }),
    watch(names, callback) {
      for (const name of [names].flat()) {
        if (name in watchers) watchers[name].push(callback);
        else watch(name, callback);
      }
    },
    trigger(event, data) {
      if (event === "stop") {
        trigger("stop", data);
        stop();
      } else if (event === "tamper" || event === "measure") trigger(event, data); // they change neither value nor state
      else if (releasing) delayed = data;
      else trigger(event, data);
    },
    inspect: server?.inspect && (async (asked) => server.inspect(asked)),
    get busy() {
      return busy;
    },
  };
}
