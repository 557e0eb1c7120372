//! The blocks' matrices as the products of phase A read them, packed once per step.
//!
//! Each W (IC, OC) is there twice: as panels of W for the forward product and as panels of its
//! transpose for the backward one ([`gemm`](super::gemm)). Whoever updates a tile of the parameters
//! packs it at once, while its values are in the cache ([`Tile::panels`](super::Tile::panels)); all sequences of the next
//! step then read the panels. The embeddings need none.

use super::Config;
use super::gemm::{PANEL, pack_transposed, panels_len as len_of};
use super::layout::{block_ranges, place};
use std::ops::Range;

/// The parameters, and their matrices once more as panels.
///
/// ```
/// use twelvefold::model::{Config, Layout, Weights, pack};
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// let params = Layout::new(&config).init(1);
/// let panels = pack(&config, &params);
/// let weights = Weights::new(&config, &params, &panels);
/// assert_eq!(weights.params().len(), params.len());
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    params: &'a [f32],
    panels: &'a [f32],
}

impl<'a> Weights<'a> {
    /// `params`: the flat vector of [`Layout`](super::Layout). `panels`: what [`pack`] makes of it,
    /// or what [`Tile::panels`](super::Tile::panels) has written since.
    ///
    /// # Panics
    /// Where one of them has another length than the model's.
    pub fn new(config: &Config, params: &'a [f32], panels: &'a [f32]) -> Weights<'a> {
        let len = super::layout::final_norm_ranges(config)[1].end;
        assert!(params.len() == len, "{} parameters for {len}", params.len());
        let len = panels_len(config);
        assert!(panels.len() == len, "panels of {} for {len}", panels.len());
        Weights { params, panels }
    }

    /// The flat vector.
    pub fn params(&self) -> &'a [f32] {
        self.params
    }

    /// The panels of all matrices.
    #[cfg(test)]
    pub(crate) fn panels(&self) -> &'a [f32] {
        self.panels
    }

    /// W of the matrix at `place` of block `layer`, as panels of (IC, OC).
    pub(crate) fn forward(&self, config: &Config, layer: usize, place: usize) -> &'a [f32] {
        &self.panels[ranges(config, layer, place).0]
    }

    /// W^T of it, as panels of (OC, IC).
    pub(crate) fn backward(&self, config: &Config, layer: usize, place: usize) -> &'a [f32] {
        &self.panels[ranges(config, layer, place).1]
    }
}

/// The matrices of a block, with their inputs and outputs in units of `C`.
pub(crate) const MATRICES: [(usize, usize, usize); 4] = [
    (place::ATTN_W, 1, 3),
    (place::ATTN_PROJ_W, 1, 1),
    (place::FC_W, 1, 4),
    (place::FC_PROJ_W, 4, 1),
];

/// Where the panels of W and those of W^T lie.
fn ranges(config: &Config, layer: usize, place: usize) -> (Range<usize>, Range<usize>) {
    let c = config.width;
    let both = |ic: usize, oc: usize| (len_of(ic * c, oc * c), len_of(oc * c, ic * c));
    let mut at = layer * panels_len(&Config { layers: 1, ..*config });
    for (other, ic, oc) in MATRICES {
        let (forward, backward) = both(ic, oc);
        if other == place {
            return (at..at + forward, at + forward..at + forward + backward);
        }
        at += forward + backward;
    }
    unreachable!("place {place} holds no matrix")
}

/// Length of the panels of all matrices.
///
/// ```
/// use twelvefold::model::{Config, panels_len};
/// let config = Config { vocab: 10, layers: 2, heads: 2, width: 32, context: 4 };
/// assert_eq!(panels_len(&config), 2 * 2 * 12 * 32 * 32); // Each matrix twice.
/// ```
pub fn panels_len(config: &Config) -> usize {
    let c = config.width;
    let both = |(_, ic, oc)| len_of(ic * c, oc * c) + len_of(oc * c, ic * c);
    config.layers * MATRICES.into_iter().map(both).sum::<usize>()
}

/// The panels of all matrices of `params`, the flat vector of [`Layout`](super::Layout).
///
/// ```
/// use twelvefold::model::{Config, Layout, pack, panels_len};
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// assert_eq!(pack(&config, &Layout::new(&config).init(1)).len(), panels_len(&config));
/// ```
pub fn pack(config: &Config, params: &[f32]) -> Vec<f32> {
    let mut panels = vec![0.0; panels_len(config)];
    for tile in super::tiles(config) {
        for part in tile.panels(config) {
            part.write(&mut panels[part.range()], &params[part.source()]);
        }
    }
    panels
}

/// A piece of the panels that one tile of the parameters fills, and no other.
///
/// ```
/// use twelvefold::model::{Config, Layout, PanelPart, pack, panels_len, tiles};
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// let params = Layout::new(&config).init(1);
/// let mut panels = vec![0.0; panels_len(&config)];
/// let parts: Vec<PanelPart> = tiles(&config).iter().flat_map(|t| t.panels(&config)).collect();
/// for part in &parts {
///     part.write(&mut panels[part.range()], &params[part.source()]);
/// }
/// assert_eq!(panels, pack(&config, &params));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanelPart {
    /// In the panels.
    range: Range<usize>,
    /// In the parameters: whole rows of W.
    source: Range<usize>,
    /// OC
    columns: usize,
    /// The panel of W that the part belongs to; none for rows of W as columns of W^T.
    panel: Option<usize>,
}

impl PanelPart {
    /// Where it lies in the panels.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// The parameters that it is made of.
    pub fn source(&self) -> Range<usize> {
        self.source.clone()
    }

    /// Writes the part: `out` has the length of [`PanelPart::range`], `params` of
    /// [`PanelPart::source`].
    pub fn write(&self, out: &mut [f32], params: &[f32]) {
        let Some(panel) = self.panel else {
            let rows = params.len() / self.columns;
            return pack_transposed(out, params, rows, self.columns, self.columns);
        };
        let first = panel * PANEL;
        let width = PANEL.min(self.columns - first);
        for (to, row) in out.chunks_exact_mut(PANEL).zip(params.chunks_exact(self.columns)) {
            to[..width].copy_from_slice(&row[first..first + width]);
            to[width..].fill(0.0);
        }
    }
}

/// The parts that rows of the matrix at `place` of a block fill. The first row is a multiple of
/// [`PANEL`].
pub(crate) fn parts(
    config: &Config,
    layer: usize,
    place: usize,
    rows: Range<usize>,
    columns: usize,
) -> impl Iterator<Item = PanelPart> + use<> {
    debug_assert!(rows.start.is_multiple_of(PANEL), "rows share a panel with another tile");
    let matrix = block_ranges(config, layer)[place].clone();
    let ic = matrix.len() / columns;
    let source = matrix.start + rows.start * columns..matrix.start + rows.end * columns;
    let (forward, backward) = ranges(config, layer, place);
    let from = source.clone();
    let panels = (0..columns.div_ceil(PANEL)).map(move |panel| {
        let start = forward.start + panel * ic * PANEL;
        let range = start + rows.start * PANEL..start + rows.end * PANEL;
        PanelPart { range, source: from.clone(), columns, panel: Some(panel) }
    });
    let first = backward.start + rows.start * columns;
    let range = first..first + len_of(columns, rows.len());
    panels.chain(std::iter::once(PanelPart { range, source, columns, panel: None }))
}
