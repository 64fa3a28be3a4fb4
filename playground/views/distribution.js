// What temperature and filters do to the distribution that a token is drawn from: transformers' rules, in its order.
//
// A distribution is a list of candidates {logit, count, seen, …}: one token, or `count` tokens of nearly the same logit.

/**
 * The shares of candidates before and after the sampling settings.
 *
 * @param {{logit: number, count: number, seen: boolean, ends: boolean}[]} candidates
 * @param {object} settings temperature, top_k, top_p, min_p and repetition_penalty, as the controls have them.
 * @param {boolean} mayEnd Whether a token that ends the text may be drawn here.
 * @returns For each candidate {before, after, kept, cut}: its shares, how many of its tokens are left, and what cut the
 *   others: "ends", "greedy", "top_k", "top_p", "min_p", or null.
 */
export function drawShares(candidates, settings, mayEnd = true) {
  const { temperature, top_k: topK, top_p: topP, min_p: minP, repetition_penalty: penalty } = settings;
  const own = shares(candidates.map(({ logit, count }) => ({ logit, kept: count })));
  const entries = candidates.map(({ logit, count, seen, ends }) => {
    const penalised = !seen ? logit : logit < 0 ? logit * penalty : logit / penalty;
    return { logit: penalised, kept: count, cut: null, ends };
  });
  if (!mayEnd) cutWhere(entries, "ends", ({ ends }) => ends);
  const ranked = [...entries].sort((one, other) => other.logit - one.logit);
  if (temperature === 0) {
    const best = ranked.find(({ kept }) => kept);
    cutWhere(entries, "greedy", (entry) => entry !== best);
    best.kept = 1;
  } else {
    for (const entry of entries) entry.logit /= temperature;
    if (topK > 0) keepFirst(ranked, topK);
    if (topP < 1) keepMass(ranked, topP);
    if (minP > 0) keepLikely(ranked, minP);
  }
  const after = shares(entries);
  return entries.map(({ kept, cut }, at) => ({ before: own[at], after: after[at], kept, cut }));
}

// The share of each entry among all that is kept.
function shares(entries) {
  const most = Math.max(...entries.filter(({ kept }) => kept).map(({ logit }) => logit));
  const weights = entries.map(({ logit, kept }) => (kept ? kept * Math.exp(logit - most) : 0));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

function cutTo(entry, kept, reason) {
  if (kept >= entry.kept) return;
  entry.kept = kept;
  entry.cut = reason;
}

function cutWhere(entries, reason, hits) {
  for (const entry of entries) if (hits(entry)) cutTo(entry, 0, reason);
}

function keepFirst(ranked, most) {
  let left = most;
  for (const entry of ranked) {
    const kept = Math.min(entry.kept, left);
    left -= kept;
    cutTo(entry, kept, "top_k");
  }
}

// The fewest likeliest tokens that together have this share; at least one.
function keepMass(ranked, mass) {
  const found = shares(ranked);
  let missing = mass;
  ranked.forEach((entry, at) => {
    if (!entry.kept) return;
    const each = found[at] / entry.kept;
    const kept = missing > 0 ? Math.min(entry.kept, Math.max(1, Math.ceil(missing / each - 1e-9))) : 0;
    missing -= kept * each;
    cutTo(entry, kept, "top_p");
  });
}

function keepLikely(ranked, least) {
  const found = shares(ranked);
  const each = ranked.map(({ kept }, at) => (kept ? found[at] / kept : 0));
  const most = Math.max(...each);
  ranked.forEach((entry, at) => each[at] < least * most && cutTo(entry, 0, "min_p"));
}
