"""k-reciprocal re-ranking (Zhong et al. 2017): two images are near if they have the same neighbours.

    Q queries, G gallery items, N = Q + G, D features

Neighbours are found in blocks and everything after them is sparse: no N x N table is ever held, and Q x G
once, in the queries' type. Distances are taken in float64, so that the neighbours are the same on every
machine.
"""

import numpy as np
import torch
from scipy import sparse

BLOCK = 512  # rows whose distances to all N are held at once


def rerank(query, gallery, k1=50, k2=15, weight=0.3):
    """Re-ranked distances, smaller is nearer.

    Parameters
    ----------
    query, gallery : tensors (Q, D) and (G, D), normalised by the caller if that is wanted
    k1 : neighbours among which reciprocity is asked for
    k2 : neighbours over which the memberships are averaged; 1 for none
    weight : share of the original distance in the result

    Returns
    -------
    tensor (Q, G), of the queries' type and on their device

    Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017, on squared
    Euclidean distances d_ij / max_k d_ik, as in the code of the paper and of CLIP-ReID (which rounds to
    float16).
    """
    features = torch.cat([query, gallery]).double()  # (N, D)
    order, largest = nearest(features, max(k1 + 1, k2))  # (N, neighbours) and (N,)
    member = averaged(membership(features, largest, expanded(order, k1)), order, k2)  # V: sparse (N, N)
    found = query.new_empty(len(query), len(gallery))
    columns = member[len(query) :].tocsc()  # of the gallery's rows (G, N)
    for start in range(0, len(query), BLOCK):
        block = slice(start, min(start + BLOCK, len(query)))
        original = squared_distances(features[block], features[len(query) :]) / largest[block, None]  # (b, G)
        overlap = torch.from_numpy(jaccard_distance(member[block], columns)).to(original)  # (b, G)
        found[block] = overlap.lerp(original, weight).to(query)  # (1 - weight) overlap + weight original
    return found


def squared_distances(a, b):
    """(P, D), (R, D) -> (P, R)."""
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp(min=0)


def nearest(features, number):
    """The `number` nearest rows of each row, itself first: (N, number); and the distance to its farthest:
    (N,)."""
    order = []
    largest = []
    for block in features.split(BLOCK):
        distance = squared_distances(block, features)  # (b, N)
        order.append(distance.topk(min(number, len(features)), largest=False).indices)
        largest.append(distance.amax(1).clamp(min=1e-12))  # a model that gives one vector to everybody
    return torch.cat(order).cpu().numpy(), torch.cat(largest)


def links(order, value=1.0):
    """Neighbour lists (N, k) as a sparse (N, N) matrix with `value` at every neighbour."""
    rows, k = order.shape
    start = np.arange(rows + 1) * k  # every row has k entries
    return sparse.csr_array((np.full(order.size, value), order.ravel(), start), shape=(rows, rows))


def reciprocal(order, k):
    """R(i, k) as a sparse matrix of ones: those of i's k nearest (and itself) that have i among theirs."""
    near = links(order[:, : k + 1])  # k neighbours and the row itself
    return near.multiply(near.T).tocsr()  # an entry stays where its mirror image is one, too


def expanded(order, k1):
    """R(i, k1), joined by R(c, k1/2) of every member c if more than two thirds of it lie in R(i, k1)
    already."""
    wide = reciprocal(order, k1)
    narrow = reciprocal(order, round(k1 / 2))  # R(c, k1/2)
    shared = (wide @ narrow.T).multiply(wide).tocoo()  # at (i, c): how much of R(c, k1/2) lies in R(i, k1)
    joins = shared.data > 2 / 3 * narrow.sum(1)[shared.col]  # (entries,) which members c of i join
    chosen = sparse.csr_array(
        (np.ones(joins.sum()), (shared.row[joins], shared.col[joins])), shape=wide.shape
    )
    return (wide + chosen @ narrow).tocsr()  # only where it is not zero matters: the set's members


def membership(features, largest, sets):
    """V (N, N), sparse: exp(-distance / largest of the row) on each row's set, scaled to sum 1."""
    values = []
    for row, members in enumerate(np.split(sets.indices, sets.indptr[1:-1])):
        # (1, members)
        distance = squared_distances(
            features[row : row + 1], features[torch.from_numpy(members).to(features.device)]
        )
        values.append((-distance[0] / largest[row]).softmax(0))
    return sparse.csr_array((torch.cat(values).cpu().numpy(), sets.indices, sets.indptr), shape=sets.shape)


def averaged(member, order, k2):
    """Each row of V replaced by the mean over its k2 nearest rows, itself included."""
    nearest_k2 = order[:, :k2]  # (N, k2), or fewer where there are fewer rows
    return links(nearest_k2, 1 / nearest_k2.shape[1]) @ member


def jaccard_distance(one, two):
    """(Q, G) from the memberships (Q, N) and, by columns, (G, N): 1 - m / (2 - m), m the sum of the smaller
    memberships."""
    found = np.empty((one.shape[0], two.shape[0]))
    for row in range(one.shape[0]):
        own = slice(one.indptr[row], one.indptr[row + 1])  # the row's entries that are not zero
        others = two[:, one.indices[own]]  # (G, entries): only where the query is a member
        # per entry of `others`
        smaller = np.minimum(others.data, np.repeat(one.data[own], np.diff(others.indptr)))
        common = np.bincount(others.indices, smaller, minlength=two.shape[0])  # (G,)
        found[row] = 1 - common / (2 - common)
    return found
