use half::bf16;

/// Attention of B images of N tokens in H heads of d numbers; rows of qkv are `[3, H, d]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainAttention<'a> {
    pub qkv: &'a [f64],
    /// Added to the scores. `[H, N, N]`
    pub bias: Option<&'a [f64]>,
    pub images: usize,
    pub tokens: usize,
    pub heads: usize,
    pub width: usize,
    pub scale: f64,
}

/// What attention's gradient starts from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slopes<'a> {
    /// The result, from which the sums `delta` come.
    pub out: &'a [f64],
    pub lse: &'a [f64],
    pub dout: &'a [f64],
    /// Whether weights and slopes of scores are rounded to bf16 before the products that they go into.
    pub narrow: bool,
}

/// Gradients of attention.
pub(crate) struct PlainGradients {
    pub dqkv: Vec<f64>,
    /// Sums of out · dout. `[B, H, N]`
    pub delta: Vec<f64>,
    /// `[H, N, N]`
    pub dbias: Vec<f64>,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], by: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += by * from);
}

impl<'a> PlainAttention<'a> {
    /// Where q (0), k (1) or v (2) of a token begins.
    fn place(&self, which: usize, image: usize, token: usize, head: usize) -> usize {
        let row = image * self.tokens + token;
        ((row * 3 + which) * self.heads + head) * self.width
    }

    fn part(&self, which: usize, image: usize, token: usize, head: usize) -> &'a [f64] {
        let at = self.place(which, image, token, head);
        &self.qkv[at..at + self.width]
    }

    /// Images and heads, one after the other.
    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let heads = self.heads;
        (0..self.images).flat_map(move |image| (0..heads).map(move |head| (image, head)))
    }

    /// Returns the scores of one query with all keys.
    fn scores(&self, image: usize, query: usize, head: usize) -> Vec<f64> {
        let q = self.part(0, image, query, head);
        let bias =
            |key| self.bias.map_or(0.0, |b| b[(head * self.tokens + query) * self.tokens + key]);
        let score = |key| self.scale * dot(q, self.part(1, image, key, head)) + bias(key);
        (0..self.tokens).map(score).collect()
    }

    /// Returns the result `[B·N, H·d]`, and the logarithm of the sum of exponentials of each row of scores. `[B, H, N]`
    pub(crate) fn forward(&self) -> [Vec<f64>; 2] {
        let mut out = vec![0.0; self.images * self.tokens * self.heads * self.width];
        let mut lse = Vec::new();
        for (image, head) in self.pairs() {
            for query in 0..self.tokens {
                let scores = self.scores(image, query, head);
                let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let level = most + scores.iter().map(|s| (s - most).exp()).sum::<f64>().ln();
                let at = ((image * self.tokens + query) * self.heads + head) * self.width;
                for (key, score) in scores.iter().enumerate() {
                    let value = self.part(2, image, key, head);
                    add(&mut out[at..at + self.width], (score - level).exp(), value);
                }
                lse.push(level);
            }
        }
        [out, lse]
    }

    pub(crate) fn backward(&self, from: Slopes) -> PlainGradients {
        let narrow = |x: f64| if from.narrow { bf16::from_f32(x as f32).to_f64() } else { x };
        let (n, d) = (self.tokens, self.width);
        let mut dqkv = vec![0.0; self.qkv.len()];
        let mut dbias = vec![0.0; self.heads * n * n];
        let mut delta = Vec::new();
        for (image, head) in self.pairs() {
            for query in 0..n {
                let at = ((image * n + query) * self.heads + head) * d;
                let dout = &from.dout[at..at + d];
                let product = dot(&from.out[at..at + d], dout);
                let level = from.lse[(image * self.heads + head) * n + query];
                delta.push(product);
                let q = self.part(0, image, query, head);
                for (key, score) in self.scores(image, query, head).iter().enumerate() {
                    let weight = (score - level).exp();
                    let slope = weight * (dot(dout, self.part(2, image, key, head)) - product);
                    dbias[(head * n + query) * n + key] += slope;
                    let mut to = |which, token, by: f64, from: &[f64]| {
                        let at = self.place(which, image, token, head);
                        add(&mut dqkv[at..at + d], by, from);
                    };
                    to(0, query, self.scale * narrow(slope), self.part(1, image, key, head));
                    to(1, key, self.scale * narrow(slope), q);
                    to(2, key, narrow(weight), dout);
                }
            }
        }
        PlainGradients { dqkv, delta, dbias }
    }
}

/// Returns the row of the table of relative biases for each query and key. `[N·N]`
fn offsets([rows, columns]: [usize; 2]) -> Vec<usize> {
    let n = rows * columns;
    let offset = |pair: usize| {
        let (query, key) = (pair / n, pair % n);
        let down = query / columns + rows - 1 - key / columns;
        let across = query % columns + columns - 1 - key % columns;
        down * (2 * columns - 1) + across
    };
    (0..n * n).map(offset).collect()
}

/// Returns the bias of each pair of tokens. `[H, N, N]`
pub(crate) fn relative_bias(table: &[f64], grid: [usize; 2], heads: usize) -> Vec<f64> {
    let offsets = offsets(grid);
    (0..heads).flat_map(|head| offsets.iter().map(move |at| table[at * heads + head])).collect()
}

/// Returns the gradient of the table. `[O, H]`
pub(crate) fn relative_bias_backward(dbias: &[f64], grid: [usize; 2], heads: usize) -> Vec<f64> {
    let offsets = offsets(grid);
    let mut table = vec![0.0; (2 * grid[0] - 1) * (2 * grid[1] - 1) * heads];
    for (i, slope) in dbias.iter().enumerate() {
        table[offsets[i % offsets.len()] * heads + i / offsets.len()] += slope;
    }
    table
}
