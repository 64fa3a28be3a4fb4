// The view of two generations from one prompt.

import { createComparison } from "./comparison.js";

export function start(host) {
  createComparison(host);
}
