// A stub of Host (see playground/views/toolkit.js): a test changes the props and `busy`, and reads what the view
// triggered.

export function bareHost(element, props) {
  const watchers = [];
  const host = {
    element,
    props,
    busy: "idle",
    asked: [], // [event, data] of every call of `trigger`
    watch(names, callback) {
      watchers.push([[names].flat(), callback]);
    },
    trigger(event, data) {
      host.asked.push([event, data]);
      if (event === "stop") host.change({}, "stopped");
    },
    change(values, busy) {
      const changed = Object.keys(values);
      Object.assign(props, values);
      if (busy) {
        host.busy = busy;
        changed.push("busy");
      }
      for (const [names, callback] of watchers) if (names.some((name) => changed.includes(name))) callback();
    },
  };
  return host;
}
