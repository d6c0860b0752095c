"""Slow, obvious NumPy twins of the ops, in float64, one element at a time."""

import math

import numpy as np


def adaptive_avg_pool(x: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    batch, height, width, channels = x.shape
    out = np.zeros((batch, *grid, channels))
    for i in range(grid[0]):
        top, bottom = math.floor(i * height / grid[0]), math.ceil((i + 1) * height / grid[0])
        for j in range(grid[1]):
            left, right = math.floor(j * width / grid[1]), math.ceil((j + 1) * width / grid[1])
            out[:, i, j] = x[:, top:bottom, left:right].mean(axis=(1, 2))
    return out


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (max(np.linalg.norm(a), 1e-12) * max(np.linalg.norm(b), 1e-12)))


def cosine_similarity(centers: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.array([[cosine(c, p) for p in points] for c in centers])


def cluster_mean(values: np.ndarray, centers: np.ndarray, index: np.ndarray) -> np.ndarray:
    out = np.zeros(centers.shape)
    for b in range(len(values)):
        for m in range(centers.shape[1]):
            members = [values[b, n] for n in range(values.shape[1]) if index[b, n] == m]
            out[b, m] = (sum(members) + centers[b, m]) / (len(members) + 1)
    return out


def depthwise_conv3x3(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    out = np.zeros(x.shape)
    _, height, width, _ = x.shape
    for h in range(height):
        for w in range(width):
            for i in range(3):
                for j in range(3):
                    y, z = h + i - 1, w + j - 1
                    if 0 <= y < height and 0 <= z < width:
                        out[:, h, w] += x[:, y, z] * kernel[i, j]
    return out


def gelu(x: np.ndarray) -> np.ndarray:
    return np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.astype(np.float64)])


def density_peak_clustering(points: np.ndarray, count: int, num_neighbors: int) -> np.ndarray:
    tokens, width = points.shape
    points = points.astype(np.float64)
    distance = np.array([[np.linalg.norm(a - b) for b in points] for a in points]) / width**0.5
    density = np.array([math.exp(-np.mean(np.sort(row)[:num_neighbors] ** 2)) for row in distance])
    score = np.zeros(tokens)
    for i in range(tokens):
        denser = [distance[i, j] for j in range(tokens) if density[j] > density[i]]
        score[i] = density[i] * (min(denser) if denser else distance.max())
    centers = sorted(range(tokens), key=lambda i: -score[i])[:count]
    index = np.array([np.argmin([distance[i, c] for c in centers]) for i in range(tokens)])
    for number, center in enumerate(centers):
        index[center] = number
    return index
