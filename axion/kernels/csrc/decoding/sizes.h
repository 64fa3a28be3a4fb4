// The decoder's sizes that follow from the model's dimensions.
#pragma once

#include "dimensions.h"
#include "common/size.h"
#include "common/vector.h"

namespace axion::decoding {

constexpr int kRowStep = 8;

// A size rounded up to the rows that a matrix has.
constexpr int row_count(int size) { return (size + kRowStep - 1) / kRowStep * kRowStep; }

// Allocated length of a row of activations: whole vectors, and at least as many as a matrix has rows. Elements beyond
// `size` are zero.
constexpr int room(int size) { return padded(row_count(size)); }

template <const auto& kOf>
struct RoomOf {
  constexpr int operator()() const { return room(kOf); }
};

template <const auto& kOf>
inline constexpr Size<RoomOf<kOf>> kRoom{};

inline constexpr int kNone = 0;
inline constexpr Size kPaddedVocabulary{[] { return padded(kVocabulary); }};
inline constexpr Size kMixtures{[] { return kLayers - kDenseLayers; }};  // layers with experts
inline constexpr Size kJoined{[] { return 2 * kHidden; }};

// Attention: the outputs of `compress` (query latent, latent and rotary key; or keys and values of all heads), the input
// of `query`, and a head of its output and of the input of `output`.
inline constexpr Size kCompressed{
    [] { return kGroupedQuery ? 2 * kKeyValueHeads * kHeadDim : kQueryRank + kLatent + kRope; }};
inline constexpr Size kCompressRank{[] { return 2 * kKeptRank; }};  // the factors of keys and values, side by side
inline constexpr Size kQueryInput{[] { return kQueryRank > 0 ? kQueryRank : kHidden; }};
inline constexpr Size kQueryHead{
    [] { return kGroupedQuery ? kHeadDim : (kAbsorbKeys ? kLatent : kNope) + kRope; }};
inline constexpr Size kQueryWidth{[] { return kHeads * kQueryHead; }};
inline constexpr Size kContextHead{[] { return kGroupedQuery ? kHeadDim : kAbsorbValues ? kLatent : kValue; }};
inline constexpr Size kContextWidth{[] { return kHeads * kContextHead; }};
inline constexpr Size kCachedRows{[] { return kGroupedQuery ? int{kCompressed} : kLatent + kRope; }};
inline constexpr Size kHeadPair{[] { return 2 * kHeadDim; }};  // a head's key and value

// The widest feed-forward part.
inline constexpr Size kWidestExpert{[] { return kExpertWidth > kSharedWidth ? kExpertWidth : kSharedWidth; }};
inline constexpr Size kWidest{[] {
  return kDenseLayers > 0 && (kMixtures == 0 || kDenseWidth > kWidestExpert) ? kDenseWidth : int{kWidestExpert};
}};

// Distance from one token's row to the next, in floats.
inline constexpr Size kHiddenRow{[] { return room(kHidden); }};
inline constexpr Size kJoinedRow{[] { return room(kJoined); }};
inline constexpr Size kCompressedRow{[] { return room(kCompressed); }};
inline constexpr Size kQueryInputRow{[] { return room(kQueryInput); }};
inline constexpr Size kQueryRow{[] { return room(kQueryWidth); }};
inline constexpr Size kContextRow{[] { return room(kContextWidth); }};
inline constexpr Size kRouterRow{[] { return room(kExperts); }};
inline constexpr Size kWidestRow{[] { return room(kWidest); }};

}  // namespace axion::decoding
