//! The 12-fold hierarchy.
//!
//! A tree in which each sphere has up to twelve children, one per symmetry group 0..11; complete,
//! it has 1, 13, 157, 1,885 nodes down to depth 0, 1, 2, 3. The root is the control sphere. Only
//! leaves compute and only leaves have a thread; an inner sphere is the place its children share:
//! a neighbourhood for stealing, and a line in the statistics. Leaves are numbered so that every
//! subtree is a range of neighbours.

use crate::engine::pool::FANOUT;
use std::ops::Range;

/// The most leaves a tree may have.
pub const MAX_LEAVES: usize = 4_096;

/// A leaf's place in the tree.
///
/// ```
/// use twelvefold::spheres::{Place, Tree};
///
/// assert_eq!(Tree::new(5).place(3), Place { id: 3, level: 1, group: 3, parent: 0 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The leaf's number, from 0.
    pub id: usize,
    /// Its depth below the control sphere, which is at 0.
    pub level: usize,
    /// Its symmetry group: `id % 12`, its position among its siblings.
    pub group: usize,
    /// The inner sphere above it, counted breadth-first from the control sphere, which is 0.
    pub parent: usize,
}

/// An inner sphere, and the leaves below it.
///
/// ```
/// use twelvefold::spheres::Tree;
///
/// let spheres: Vec<_> = Tree::new(13).inner().collect();
/// assert_eq!(spheres[0].leaves, 0..13); // The control sphere.
/// assert_eq!((spheres[1].leaves.clone(), spheres[2].leaves.clone()), (0..12, 12..13));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inner {
    /// Its number, breadth-first; the control sphere is 0.
    pub number: usize,
    /// Its depth.
    pub level: usize,
    /// The leaves of its subtree.
    pub leaves: Range<usize>,
}

/// The tree over a number of leaves.
///
/// ```
/// use twelvefold::spheres::Tree;
/// let tree = Tree::new(13);
/// assert_eq!(tree.depth(), 2);
/// let last = tree.place(12);
/// assert_eq!((last.level, last.group, last.parent), (2, 0, 2)); // alone under the second inner sphere
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    leaves: usize,
    depth: usize,
}

impl Tree {
    /// The lowest tree with this many leaves.
    ///
    /// # Panics
    /// When `leaves` is not in 1..=[`MAX_LEAVES`].
    pub fn new(leaves: usize) -> Self {
        assert!((1..=MAX_LEAVES).contains(&leaves), "a tree has 1 to {MAX_LEAVES} leaves");
        let mut depth = 1;
        while subtree(depth) < leaves {
            depth += 1;
        }
        Tree { leaves, depth }
    }

    /// How many leaves there are.
    pub fn leaves(&self) -> usize {
        self.leaves
    }

    /// The level of the leaves.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Leaf `id`'s place.
    ///
    /// # Panics
    /// When there is no such leaf.
    pub fn place(&self, id: usize) -> Place {
        assert!(id < self.leaves, "leaf {id} of {}", self.leaves);
        let above: usize = (0..self.depth - 1).map(|level| self.width(level)).sum();
        Place { id, level: self.depth, group: id % FANOUT, parent: above + id / FANOUT }
    }

    /// The inner spheres, breadth-first, the control sphere first.
    pub fn inner(&self) -> impl Iterator<Item = Inner> + '_ {
        let levels = 0..self.depth;
        let spheres = levels.flat_map(|level| (0..self.width(level)).map(move |i| (level, i)));
        spheres.enumerate().map(|(number, (level, i))| {
            let span = subtree(self.depth - level);
            let leaves = i * span..((i + 1) * span).min(self.leaves);
            Inner { number, level, leaves }
        })
    }

    /// Spheres at a level above the leaves.
    fn width(&self, level: usize) -> usize {
        self.leaves.div_ceil(subtree(self.depth - level))
    }
}

/// Leaves below a sphere of a complete tree, `height` levels above them.
fn subtree(height: usize) -> usize {
    FANOUT.pow(height as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_tree_has_the_known_numbers_of_spheres() {
        for (leaves, spheres) in [(12, 13), (144, 157), (1_728, 1_885)] {
            let tree = Tree::new(leaves);
            assert_eq!(tree.inner().count() + leaves, spheres);
        }
    }

    #[test]
    fn every_leaf_lies_in_its_parents_range_for_any_number_of_leaves() {
        for leaves in [1, 2, 11, 12, 13, 143, 144, 145, 157, 158, 1_728, 1_729, MAX_LEAVES] {
            let tree = Tree::new(leaves);
            let inner: Vec<Inner> = tree.inner().collect();
            assert_eq!(inner[0].leaves, 0..leaves, "the control sphere is above all");
            for id in 0..leaves {
                let place = tree.place(id);
                let parent = &inner[place.parent];
                assert!(parent.leaves.contains(&id), "{place:?} {parent:?}");
                assert_eq!((parent.level + 1, parent.leaves.len() <= FANOUT), (place.level, true));
                assert_eq!(parent.leaves.start + place.group, id, "the group is the position");
            }
        }
    }
}
