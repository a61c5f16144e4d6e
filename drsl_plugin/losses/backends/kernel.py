"""The rows of :mod:`~drsl_plugin.losses.backends.rows` as one Triton kernel: a program a query, no atomics, no padding.

Needs Triton: :mod:`~drsl_plugin.losses.backends.launch` imports it only where it runs.
"""

import triton
import triton.language as tl


@triton.jit
def _step(gap, temperature, SIGMOID: tl.constexpr):
    """Relaxed step and its slope, the slope in its own unit."""
    if SIGMOID:
        step = 1.0 / (1.0 + tl.exp(-gap / temperature))
        slope = step - step * step
    else:
        outside = tl.abs(gap) >= temperature
        step = tl.where(outside, tl.where(gap > 0, 1.0, 0.0), gap / (2 * temperature) + 0.5)
        slope = tl.where(outside, 0.0, 1.0)
    return step, slope


@triton.jit
def _positives(order, start, place, count, first, POSITIVES: tl.constexpr):
    """Numbers, columns and mask of some positives of a query."""
    lanes = first + tl.arange(0, POSITIVES)
    real = lanes < count
    columns = tl.load(order + start + lanes + tl.where(lanes >= place, 1, 0), mask=real, other=0)
    return lanes, columns, real


@triton.jit
def _negatives(
    scores,
    ref_labels,
    label,
    references,
    first,
    lowest,
    highest,
    unclear,
    reach,
    temperature,
    REFERENCES: tl.constexpr,
):
    """Some references of a query: the negatives, their scores; 1 if surely all are ahead, -1 if surely none, else 0."""
    columns = first + tl.arange(0, REFERENCES)
    inside = columns < references
    negative = inside & (tl.load(ref_labels + columns, mask=inside, other=0) != label)
    found = tl.load(scores + columns, mask=inside, other=0.0)
    nearest = tl.max(tl.where(negative, found, float("-inf")))
    farthest = tl.min(tl.where(negative, found, float("inf")))
    far = reach * temperature
    where = tl.where(farthest - highest > far, 1, tl.where(nearest - lowest < -far, -1, 0))
    is_nan = (tl.max(tl.where(negative & (found != found), 1, 0)) + unclear) > 0
    return columns, inside, negative, found, tl.where(is_nan, 0, where)


@triton.jit
def rank_rows(
    scores,
    cosines,
    gradient,
    of_cosines,
    parts,
    order,
    ref_labels,
    labels,
    starts,
    places,
    counts,
    weights,
    references,
    temperature,
    temperature_rest,
    sort_weight,
    sort_weight_rest,
    reach,
    SIGMOID: tl.constexpr,
    SORT: tl.constexpr,
    ERROR_DRIVEN: tl.constexpr,
    TERMS: tl.constexpr,
    LEAST_PRECISION: tl.constexpr,
    SEPARATE: tl.constexpr,
    EXACT: tl.constexpr,
    POSITIVES: tl.constexpr,
    REFERENCES: tl.constexpr,
):
    """Rank all the references of one query: write its parts and the gradients in its scores and cosines."""
    row = tl.program_id(0)
    offset = row.to(tl.int64) * references
    scores += offset
    cosines += offset
    gradient += offset
    of_cosines += offset
    start, place, count = tl.load(starts + row), tl.load(places + row), tl.load(counts + row)
    label, weight = tl.load(labels + row), tl.load(weights + row)
    zeros = tl.zeros([POSITIVES], dtype=weight.dtype)
    zero = tl.sum(zeros)
    temperature = zero + temperature + temperature_rest  # in the scores' precision
    sort_weight = zero + sort_weight + sort_weight_rest
    per_unit = 1.0 / temperature if SIGMOID and not ERROR_DRIVEN else 0.5 / temperature
    ranking_sum, sorting_sum, ap_sum, above_sum, joint_sum = zero, zero, zero, zero, zero

    for first in range(0, tl.maximum(count, 1), POSITIVES):
        lanes, columns, real = _positives(order, start, place, count, first, POSITIVES)
        of_positive = tl.load(scores + columns, mask=real, other=0.0)
        lack = (1 - tl.load(cosines + columns, mask=real, other=1.0)) / 2
        weight_of = tl.where(real, weight, 0.0)

        # Among the positives: sums over j of a, h, and of both with the lack of j, also over those better than i.
        rank, numerator, slopes, slopes_lack = zeros + 1, lack, zeros, zeros
        target_rank, target, target_slopes, target_slopes_lack = zeros + 1, lack, zeros, zeros
        hard_rank, causes = zeros + 1, zeros
        for other in range(0, count, POSITIVES):
            j_lanes, j_columns, j_real = _positives(order, start, place, count, other, POSITIVES)
            of_j = tl.load(scores + j_columns, mask=j_real, other=0.0)
            j_lack = ((1 - tl.load(cosines + j_columns, mask=j_real, other=1.0)) / 2)[None, :]
            counted = j_real[None, :] & (lanes[:, None] != j_lanes[None, :])
            gap = of_j[None, :] - of_positive[:, None]
            step, slope = _step(gap, temperature, SIGMOID)
            step, slope = tl.where(counted, step, 0.0), tl.where(counted, slope, 0.0)
            rank += tl.sum(step, 1)
            slopes += tl.sum(slope, 1)
            if SORT != "none":
                numerator += tl.sum(step * j_lack, 1)
                slopes_lack += tl.sum(slope * j_lack, 1)
            if SORT == "order":
                better = j_lack <= lack[:, None]
                causes += tl.sum(tl.where(better, 0.0, step), 1)
                step, slope = tl.where(better, step, 0.0), tl.where(better, slope, 0.0)
                target_rank += tl.sum(step, 1)
                target += tl.sum(step * j_lack, 1)
                target_slopes += tl.sum(slope, 1)
                target_slopes_lack += tl.sum(slope * j_lack, 1)
            if EXACT:
                hard_rank += tl.sum(tl.where(counted & (gap >= 0), 1.0, 0.0), 1)

        # Against the negatives.
        lowest = tl.min(tl.where(real, of_positive, float("inf")))
        highest = tl.max(tl.where(real, of_positive, float("-inf")))
        unclear = tl.max(tl.where(of_positive != of_positive, 1, 0))
        false_positives, negative_slopes, hard_false_positives = zeros, zeros, zeros
        for column in range(0, references, REFERENCES):
            each, inside, negative, of_each, where = _negatives(
                scores, ref_labels, label, references, column, lowest, highest, unclear, reach, temperature, REFERENCES
            )
            if where > 0:
                ahead = tl.sum(tl.where(negative, 1.0, 0.0))
                false_positives += ahead
                hard_false_positives += ahead
            elif where == 0:
                gap = of_each[None, :] - of_positive[:, None]
                step, slope = _step(gap, temperature, SIGMOID)
                false_positives += tl.sum(tl.where(negative[None, :], step, 0.0), 1)
                negative_slopes += tl.sum(tl.where(negative[None, :], slope, 0.0), 1)
                if EXACT:
                    hard_false_positives += tl.sum(tl.where(negative[None, :] & (gap >= 0), 1.0, 0.0), 1)

        # What each of these positives adds to the loss, and how the loss depends on its errors.
        total = rank + false_positives
        ranking, error, better_error = false_positives / total, numerator / rank, target / target_rank
        sorting = error - better_error if SORT == "order" else error
        of_ranking, of_sorting = weight_of, sort_weight * weight_of
        ranking_sum += tl.sum(tl.where(real, weight_of * ranking, 0.0))
        if SORT != "none":
            sorting_sum += tl.sum(tl.where(real, weight_of * sorting, 0.0))
        if EXACT:
            ap_sum += tl.sum(tl.where(real, weight_of * hard_rank / (hard_rank + hard_false_positives), 0.0))
            above_sum += tl.sum(tl.where(hard_false_positives == 0, weight_of, 0.0))
        if TERMS == "graded":
            joint_sum += tl.sum(tl.where(real, weight_of * (ranking + sort_weight * sorting * rank / total), 0.0))
            of_ranking, of_sorting = of_ranking * (1 - sort_weight * sorting), of_sorting * rank / total
        elif TERMS == "log":
            joint, of_ranking = tl.log(total / rank), of_ranking * total / rank
            if SORT != "none":
                precision = tl.maximum(1 - sorting, LEAST_PRECISION)
                joint -= sort_weight * tl.log(precision)
                of_sorting = tl.where(1 - sorting < LEAST_PRECISION, 0.0, of_sorting / precision)
            joint_sum += tl.sum(tl.where(real, weight_of * joint, 0.0))

        # Derivatives in a, or the errors themselves as pulls.
        constant, linear, better_constant, better_linear, pull = zeros, zeros, zeros, zeros, zeros
        if ERROR_DRIVEN:
            of_negatives = per_unit * of_ranking / total
            own = -of_negatives * false_positives
            if SORT == "order":
                pull = tl.where(causes == 0, 0.0, per_unit * of_sorting * sorting)
                own -= pull
                pull /= tl.where(causes == 0, 1.0, causes)
        else:
            of_negatives = per_unit * of_ranking * rank / (total * total)
            constant = -of_ranking * ranking / total
            if SORT != "none":
                linear = of_sorting / rank
                constant -= linear * error
            if SORT == "order":
                better_linear = of_sorting / target_rank
                better_constant = better_linear * better_error
            own = -per_unit * (constant * slopes + linear * slopes_lack)
            own -= per_unit * (better_constant * target_slopes - better_linear * target_slopes_lack)
            own -= of_negatives * negative_slopes
        share = of_sorting / rank / 2  # dy / dcos = 1/2

        # The gradient of the negatives; the first positives write it, zeros where there is no negative.
        for column in range(0, references, REFERENCES):
            each, inside, negative, of_each, where = _negatives(
                scores, ref_labels, label, references, column, lowest, highest, unclear, reach, temperature, REFERENCES
            )
            found = tl.zeros([REFERENCES], dtype=weight.dtype)
            if where == 0:
                step, slope = _step(of_each[None, :] - of_positive[:, None], temperature, SIGMOID)
                movable = step if ERROR_DRIVEN else slope
                found = tl.sum(tl.where(real[:, None], of_negatives[:, None] * movable, 0.0), 0)
                found = tl.where(negative, found, 0.0)
            elif ERROR_DRIVEN and where > 0:
                found = tl.where(negative, tl.sum(tl.where(real, of_negatives, 0.0)), 0.0)
            if first > 0:
                found += tl.load(gradient + each, mask=inside, other=0.0)
            tl.store(gradient + each, found, mask=inside)
        tl.debug_barrier()  # the same places are added to below, by other threads

        for other in range(0, count, POSITIVES):
            j_lanes, j_columns, j_real = _positives(order, start, place, count, other, POSITIVES)
            of_j = tl.load(scores + j_columns, mask=j_real, other=0.0)
            j_lack = ((1 - tl.load(cosines + j_columns, mask=j_real, other=1.0)) / 2)[None, :]
            is_own = lanes[:, None] == j_lanes[None, :]
            counted = j_real[None, :] & ~is_own
            step, slope = _step(of_j[None, :] - of_positive[:, None], temperature, SIGMOID)
            slope = tl.where(counted, slope, 0.0)
            if ERROR_DRIVEN:
                of_gap = pull[:, None] * tl.where(counted & (j_lack > lack[:, None]), step, 0.0)
            else:
                of_step = constant[:, None] + linear[:, None] * j_lack
                if SORT == "order":
                    of_better = better_constant[:, None] - better_linear[:, None] * j_lack
                    of_step += tl.where(j_lack <= lack[:, None], of_better, 0.0)
                of_gap = per_unit * of_step * slope
            found = tl.sum(of_gap + tl.where(is_own, own[:, None], 0.0), 0)
            if SORT == "angle":
                angle = -tl.sum(share[:, None] * tl.where(is_own, 1.0, tl.where(counted, step, 0.0)), 0)
                if SEPARATE:
                    angle += tl.load(of_cosines + j_columns, mask=j_real, other=0.0)
                    tl.store(of_cosines + j_columns, angle, mask=j_real)
                else:
                    found += angle
            found += tl.load(gradient + j_columns, mask=j_real, other=0.0)
            tl.store(gradient + j_columns, found, mask=j_real)
        tl.debug_barrier()

    tl.store(parts + row * 5, ranking_sum)
    tl.store(parts + row * 5 + 1, sorting_sum)
    tl.store(parts + row * 5 + 2, ap_sum)
    tl.store(parts + row * 5 + 3, above_sum)
    tl.store(parts + row * 5 + 4, joint_sum)
