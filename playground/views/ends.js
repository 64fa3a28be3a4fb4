// Where a text ends, and why: at its own end, or cut by a limit. A prompt that was cut says so where it begins.

const ENDS = { eos: "end_of_text", length: "cut_length", context: "cut_context" };

/** Marks both ends of a text in `box`; `outcome` is the end event, null while there is none. */
export function markEnds({ fill, count }, box, run, outcome, fresh) {
  for (const name of ["start", "end", "reason"]) delete box.dataset[name];
  const counts = { dropped: count(run?.dropped ?? 0), context: count(run?.context ?? 0), most: count(fresh) };
  if (run?.dropped) box.dataset.start = fill("cut_start", counts);
  if (!outcome || outcome.reason === "recorded") return;
  box.dataset.reason = outcome.reason;
  box.dataset.end = fill(ENDS[outcome.reason] ?? outcome.reason, { ...outcome, ...counts });
}
