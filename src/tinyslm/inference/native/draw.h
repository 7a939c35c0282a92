// Choosing next tokens from logits; sampler.py says the same in NumPy, and what the filters mean.
#pragma once
#include <algorithm>
#include <limits>
#include <vector>
#include "lanes.h"

struct Draws {
    const float* logits;  // [count, stride], of which vocab_size values count
    const float* temperature;
    const int32_t* top_k;
    const float *top_p, *min_p;
    const double* chance;
    const uint32_t* allowed;  // bits [count, (vocab_size + 31) / 32], or null
    int64_t stride;
    int32_t count, vocab_size;
};

// Draws one row after another, with memory that it keeps.
class Drawer {
public:
    int draw(const Draws& draws, int row) {
        size = draws.vocab_size;
        if (draws.temperature[row] == 0 && !draws.allowed) return likeliest(draws.logits + row * draws.stride);
        read(draws, row);
        if (draws.temperature[row] == 0 || !(highest > LOWEST)) return first_highest();
        const int top_k = draws.top_k[row];
        if (top_k > 0 && top_k < size) cut_below(logits, kth_largest(top_k), LOWEST);
        weigh(draws.temperature[row]);
        if (draws.top_p[row] < 1) keep_share(draws.top_p[row], draws.temperature[row]);
        if (draws.min_p[row] > 0) cut_below(weights, draws.min_p[row], 0);  // the largest weight is 1
        return at_chance(draws.chance[row]);
    }

private:
    static constexpr float LOWEST = -std::numeric_limits<float>::infinity();
    static constexpr int GROUP = 64;  // ids that are passed over together where the highest logit is too low
    static constexpr int CHUNK = 256;  // ids whose weights are summed before the draw looks closer

    struct Candidate {
        float weight;
        int id;
        // Heavier ones first, then by id.
        bool operator<(const Candidate& other) const {
            return weight != other.weight ? weight > other.weight : id < other.id;
        }
    };

    int size = 0;
    float highest = 0;
    std::vector<float> logits, weights, peaks, some;
    std::vector<double> sums;
    std::vector<Candidate> candidates;

    int likeliest(const float* from) const {
        Lanes high = broadcast(LOWEST);
        for (int i = 0; i < size; i += LANES) high = largest(high, load_some(from + i, size - i, LOWEST));
        const float* found = std::find(from, from + size, most(high));
        return found == from + size ? 0 : found - from;
    }

    // Copies a row's logits, the lowest number for tokens that may not come, padded with it to whole chunks; finds the
    // highest, and the peak of each group too.
    void read(const Draws& draws, int row) {
        const long room = (size + CHUNK - 1) / CHUNK * CHUNK;
        logits.resize(room), weights.resize(room), peaks.resize(room / GROUP), sums.resize(room / CHUNK);
        const float* from = draws.logits + row * draws.stride;
        const uint32_t* bits = draws.allowed ? draws.allowed + long(row) * ((size + 31) / 32) : nullptr;
        highest = LOWEST;
        for (long group = 0; group < room; group += GROUP) {
            Lanes high = broadcast(LOWEST);
            for (long i = group; i < group + GROUP; i += LANES) {
                Lanes x = i + LANES <= size ? load(from + i) : load_some(from + i, std::max(0L, size - i), LOWEST);
                if (bits && i < size) x = only(x, bits[i / 32] >> i % 32 & 0xffff);
                store(&logits[i], x);
                high = largest(high, x);
            }
            peaks[group / GROUP] = most(high);
            highest = std::max(highest, peaks[group / GROUP]);
        }
    }

    static Lanes only(Lanes x, uint32_t bits) {
        if (bits == 0xffff) return x;
        float y[LANES];
        store(y, x);
        for (int i = 0; i < LANES; i++)
            if (!(bits >> i & 1)) y[i] = LOWEST;
        return load(y);
    }

    int first_highest() const {
        for (int i = 0; i < size; i++) {
            if (i % GROUP == 0 && peaks[i / GROUP] < highest) i += GROUP - 1;
            else if (logits[i] == highest) return i;
        }
        return 0;
    }

    // At least k logits are not below the k-th largest peak, so that only few need be looked at.
    float kth_largest(int k) {
        some.clear();
        float least = LOWEST;
        if (k <= (int)peaks.size()) {
            some = peaks;
            std::nth_element(some.begin(), some.begin() + k - 1, some.end(), std::greater<float>());
            least = some[k - 1];
            some.clear();
        }
        for (int i = 0; i < size; i++) {
            if (i % GROUP == 0 && peaks[i / GROUP] < least) i += GROUP - 1;
            else if (logits[i] >= least) some.push_back(logits[i]);
        }
        std::nth_element(some.begin(), some.begin() + k - 1, some.end(), std::greater<float>());
        return some[k - 1];
    }

    static void cut_below(std::vector<float>& values, float least, float to) {
        for (size_t i = 0; i < values.size(); i += LANES) {
            Lanes x = load(&values[i]);
            EACH_PART x.part[i] = x.part[i] < least ? Floats{} + to : x.part[i];
            store(&values[i], x);
        }
    }

    // weights = e^((logit - highest) / temperature).
    void weigh(float temperature) {
        const Lanes high = broadcast(highest), divisor = broadcast(temperature);
        for (size_t i = 0; i < logits.size(); i += LANES)
            store(&weights[i], exponential((load(&logits[i]) - high) / divisor));
    }

    double total_weight() {
        double whole = 0;
        for (size_t chunk = 0; chunk < sums.size(); chunk++) {
            Lanes sum = broadcast(0);
            for (int i = 0; i < CHUNK; i += LANES) sum = sum + load(&weights[chunk * CHUNK + i]);
            whole += sums[chunk] = total(sum);
        }
        return whole;
    }

    // Keeps the heaviest tokens until their sum reaches this share, drops the others.
    void keep_share(float share, float temperature) {
        const double whole = total_weight(), aim = share * whole;
        // All tokens lighter than this together weigh less than what is to be dropped.
        const float least = (whole - aim) / size * 0.999;
        const float lowest_peak = highest + temperature * (std::log(least) - 0.01f);
        candidates.clear();
        for (int i = 0; i < size; i++) {
            if (i % GROUP == 0 && peaks[i / GROUP] < lowest_peak) i += GROUP - 1;
            else if (weights[i] > 0 && weights[i] >= least) candidates.push_back({weights[i], i});
        }
        const Candidate last = last_kept(aim);
        cut_below(weights, last.weight, 0);
        for (const Candidate& other : candidates)
            if (last < other) weights[other.id] = 0;
    }

    // The candidate before which the sum is still less than `aim`, but no longer after it.
    Candidate last_kept(double aim) {
        size_t from = 0, to = candidates.size();
        double before = 0;
        while (to - from > 16) {
            const size_t middle = (from + to) / 2;
            std::nth_element(candidates.begin() + from, candidates.begin() + middle, candidates.begin() + to);
            double sum = 0;
            for (size_t i = from; i < middle; i++) sum += candidates[i].weight;
            if (before + sum < aim) from = middle, before += sum;
            else to = middle;
        }
        std::sort(candidates.begin() + from, candidates.begin() + to);
        size_t last = from;
        for (size_t i = from; i < to && (i == from || before < aim); i++) last = i, before += candidates[i].weight;
        return candidates[last];
    }

    // The first id whose cumulative weight exceeds this part of the whole; should rounding leave none, the last one.
    int at_chance(double chance) {
        double aim = chance * total_weight();
        int last = 0;
        for (size_t chunk = 0; chunk < sums.size(); aim -= sums[chunk++]) {
            if (!sums[chunk]) continue;
            last = chunk;
            if (sums[chunk] > aim) break;
        }
        int at = last * CHUNK;
        double sum = 0;
        for (int i = at; i < (last + 1) * CHUNK; i++) {
            if (!weights[i]) continue;
            at = i;
            if ((sum += weights[i]) > aim) break;
        }
        return at;
    }
};
