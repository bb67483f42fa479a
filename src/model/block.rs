//! One pre-norm encoder block: attention and MLP, each with a residual, optional `LayerScale` and drop path.

use super::ModelShape;
use super::layers::{LayerNorm, Linear, zeros};
use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, activation};

/// Multi-head self-attention with one fused projection to queries, keys and values.
#[derive(Module, Debug)]
pub struct Attention<B: Backend> {
    pub qkv: Linear<B>,
    pub proj: Linear<B>,
    heads: usize,
}

impl<B: Backend> Attention<B> {
    /// # Shapes
    /// - rows: [B·N, D]
    /// - bias: [1, heads, N, N], added to the logits
    /// - output: [B·N, D]
    fn forward(
        &self,
        rows: Tensor<B, 2>,
        patches: usize,
        bias: Option<&Tensor<B, 4>>,
    ) -> Tensor<B, 2> {
        let [total, dim] = rows.dims();
        let (batch, head_dim) = (total / patches, dim / self.heads);
        let [query, key, value] = {
            let qkv = self.qkv.forward(rows); // [B·N, 3·D]
            let qkv = qkv.reshape([batch, patches, 3, self.heads, head_dim]);
            let qkv = qkv.permute([2, 0, 3, 1, 4]); // [3, B, heads, N, head_dim]
            [0, 1, 2].map(|part| {
                qkv.clone().narrow(0, part, 1).reshape([batch, self.heads, patches, head_dim])
            })
        };
        // Scaling the query touches N·head_dim numbers per head, scaling the logits would touch N·N.
        let query = query.mul_scalar((head_dim as f64).powf(-0.5));
        let logits = query.matmul(key.swap_dims(2, 3)); // [B, heads, N, N]
        let logits = match bias {
            Some(bias) => logits + bias.clone(),
            None => logits,
        };
        let mixed = activation::softmax(logits, 3).matmul(value); // [B, heads, N, head_dim]
        self.proj.forward(mixed.swap_dims(1, 2).reshape([total, dim]))
    }
}

/// Linear, exact GELU, linear.
#[derive(Module, Debug)]
pub struct Mlp<B: Backend> {
    pub fc1: Linear<B>,
    pub fc2: Linear<B>,
}

impl<B: Backend> Mlp<B> {
    /// [B·N, D] -> [B·N, D]
    fn forward(&self, rows: Tensor<B, 2>) -> Tensor<B, 2> {
        self.fc2.forward(activation::gelu(self.fc1.forward(rows)))
    }
}

/// Learned per-channel scale of a residual branch (Touvron et al. 2021).
#[derive(Module, Debug)]
pub struct LayerScale<B: Backend> {
    /// [D]
    pub gamma: Param<Tensor<B, 1>>,
}

/// Per-image factors of the two residual branches: 0 or 1 / keep probability. [B, 1, 1] each
pub type BranchFactors<B> = [Tensor<B, 3>; 2];

#[derive(Module, Debug)]
pub struct Block<B: Backend> {
    pub norm1: LayerNorm<B>,
    pub attn: Attention<B>,
    pub ls1: Option<LayerScale<B>>,
    pub norm2: LayerNorm<B>,
    pub mlp: Mlp<B>,
    pub ls2: Option<LayerScale<B>>,
}

impl<B: Backend> Block<B> {
    pub fn zeros(shape: &ModelShape, device: &B::Device) -> Self {
        let dim = shape.dim;
        let scale =
            || (shape.layer_scale > 0.0).then(|| LayerScale { gamma: zeros([dim], device) });
        Self {
            norm1: LayerNorm::zeros(dim, device),
            attn: Attention {
                qkv: Linear::zeros(dim, 3 * dim, device),
                proj: Linear::zeros(dim, dim, device),
                heads: shape.heads,
            },
            ls1: scale(),
            norm2: LayerNorm::zeros(dim, device),
            mlp: Mlp {
                fc1: Linear::zeros(dim, shape.hidden, device),
                fc2: Linear::zeros(shape.hidden, dim, device),
            },
            ls2: scale(),
        }
    }

    /// # Shapes
    /// - rows: [B·N, D], with N = `patches`
    /// - bias: [1, heads, N, N]
    pub fn forward(
        &self,
        rows: Tensor<B, 2>,
        patches: usize,
        bias: Option<&Tensor<B, 4>>,
        factors: Option<&BranchFactors<B>>,
    ) -> Tensor<B, 2> {
        let branch = self.attn.forward(self.norm1.forward(rows.clone()), patches, bias);
        let rows = rows + scaled(branch, self.ls1.as_ref(), factors.map(|f| &f[0]), patches);
        let branch = self.mlp.forward(self.norm2.forward(rows.clone()));
        rows + scaled(branch, self.ls2.as_ref(), factors.map(|f| &f[1]), patches)
    }
}

fn scaled<B: Backend>(
    branch: Tensor<B, 2>,
    scale: Option<&LayerScale<B>>,
    factor: Option<&Tensor<B, 3>>,
    patches: usize,
) -> Tensor<B, 2> {
    let branch = match scale {
        Some(scale) => branch * scale.gamma.val().unsqueeze::<2>(),
        None => branch,
    };
    let Some(factor) = factor else { return branch };
    let [total, dim] = branch.dims();
    let branch = branch.reshape([total / patches, patches, dim]) * factor.clone();
    branch.reshape([total, dim])
}
