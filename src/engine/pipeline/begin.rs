//! How a pipeline begins.

use super::builder::Builder;
use super::run::Pipeline;
use super::source::{Asked, Iter, Pull};
use crate::engine::error::BoxError;
use std::convert::Infallible;

impl<'env> Pipeline<'env> {
    /// Starts with an iterator. It must not wait for the outside ([`Builder::blocking`]).
    ///
    /// ```
    /// use std::collections::BTreeSet;
    /// use twelvefold::engine::pipeline::Pipeline;
    ///
    /// let text = String::from("b\na\nb"); // Items may borrow: the run ends before the text does.
    /// let mut lines = BTreeSet::new();
    /// Pipeline::from_iter("lines", text.lines()).sink("gather", |line| drop(lines.insert(line))).run()?;
    /// assert!(lines.into_iter().eq(["a", "b"]));
    /// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
    /// ```
    pub fn from_iter<I>(name: &str, items: I) -> Builder<'env, I::Item>
    where
        I: IntoIterator<Item: Send + 'env, IntoIter: Send + 'env>,
    {
        Builder::begin(name, Iter(items.into_iter()))
    }

    /// Starts with a function that is asked for one item after the other.
    ///
    /// ```
    /// use twelvefold::engine::pipeline::{Pipeline, Pull};
    ///
    /// let (mut stack, mut seen) = (vec![3, 2, 1], Vec::new());
    /// Pipeline::source("stack", || stack.pop().map_or(Pull::End, Pull::Item))
    ///     .sink("gather", |n| seen.push(n))
    ///     .run()?;
    /// assert_eq!(seen, [1, 2, 3]);
    /// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
    /// ```
    pub fn source<T: Send + 'env>(
        name: &str,
        mut next: impl FnMut() -> Pull<T> + Send + 'env,
    ) -> Builder<'env, T> {
        Builder::begin(name, Asked(move || Ok::<_, Infallible>(next())))
    }

    /// [`Pipeline::source`] with a function that may fail.
    ///
    /// ```
    /// use std::io::{self, BufRead};
    /// use twelvefold::engine::pipeline::{Pipeline, Pull};
    ///
    /// let mut input = io::Cursor::new("one\ntwo\n"); // A file in its place could fail.
    /// let read = || -> io::Result<Pull<String>> {
    ///     let mut line = String::new();
    ///     Ok(if input.read_line(&mut line)? > 0 { Pull::Item(line) } else { Pull::End })
    /// };
    /// let report = Pipeline::try_source("read", read).sink("drop", drop).run()?;
    /// assert_eq!(report.items, 2);
    /// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
    /// ```
    pub fn try_source<T: Send + 'env, E: Into<BoxError> + 'env>(
        name: &str,
        next: impl FnMut() -> Result<Pull<T>, E> + Send + 'env,
    ) -> Builder<'env, T> {
        Builder::begin(name, Asked(next))
    }
}
