// The static host: gives a view its six names (see Host in playground/views/toolkit.js). The page sets the props and
// `busy`; what the view triggers goes to `actions`.

export function createHost(element, props, actions = {}) {
  const watchers = [];
  let busy = "idle";

  function notify(names) {
    for (const [watched, callback] of watchers) if (watched.some((name) => names.includes(name))) callback();
  }

  return {
    element,
    props,
    watch(names, callback) {
      watchers.push([[names].flat(), callback]);
    },
    trigger(event, data) {
      actions[event]?.(data);
    },
    inspect: actions.inspect,
    get busy() {
      return busy;
    },
    /** Changes some props; the view hears of all of them together. */
    change(values) {
      Object.assign(props, values);
      notify(Object.keys(values));
    },
    setBusy(state) {
      busy = state;
      notify(["busy"]);
    },
  };
}
