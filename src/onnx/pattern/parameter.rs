//! Scales and biases: constants that differ along the axes that are normalized.

use super::super::graph::{ScopeKind, ValueId};
use super::look::Look;
use super::readers::Reader;
use super::statistic::Statistic;
use super::trail::Trail;

/// How a parameter lies to the normalized axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It differs along those axes and no others: it is a scale or bias of the norm.
    Along,
    /// It differs along other axes only: that of an InstanceNormalization, not of a LayerNormalization.
    Beside,
    /// Neither: one number, a table of positions, not a parameter at all.
    No,
}

impl Trail<'_, '_, '_> {
    /// How a value lies to the axes of a statistic.
    pub(super) fn fit(&self, v: ValueId, of: &Statistic) -> Fit {
        let view = self.view();
        // Inside a function, the parameters of its caller are inputs.
        let function = matches!(view.scopes()[self.scope].kind, ScopeKind::Function(_));
        let argument = function && view.value(v).is_input && self.root(v) != of.x;
        if !self.graph.is_constant(v) {
            return if argument { Fit::Along } else { Fit::No };
        }
        let Some(dims) = self.graph.shapes.dims(v) else { return Fit::No };
        let rank = i64::try_from(dims.len()).unwrap_or(0);
        let from_back = |i: usize| i64::try_from(i).unwrap_or(0) - rank;
        let wide: Vec<i64> = (0..dims.len()).filter(|i| dims[*i] != Some(1)).map(from_back).collect();
        let along =
            |axis: i64| of.axes.iter().any(|own| if *own < 0 { *own == axis } else { *own == axis + rank });
        let fits = |axis: &i64| match (self.graph.shapes.dim(v, *axis), self.graph.shapes.dim(of.x, *axis)) {
            (Some(own), Some(of)) => own == of,
            _ => true,
        };
        // Axes from the front tell nothing beside a parameter that leaves the front out.
        let known = of.axes.iter().all(|axis| *axis < 0) || rank >= 2;
        match &wide[..] {
            [] => Fit::No,
            wide if known && wide.iter().all(|axis| along(*axis) && fits(axis)) => Fit::Along,
            wide if wide.iter().any(|axis| along(*axis)) => Fit::No,
            _ => Fit::Beside,
        }
    }

    /// The one node that multiplies by (or adds) a parameter, and whether one lies beside the axes.
    pub(super) fn parameter(
        &self,
        v: ValueId,
        op: &str,
        of: &Statistic,
    ) -> (Option<(Reader, ValueId)>, bool) {
        let mut beside = false;
        let mut found = Vec::new();
        for reader in self.readers(v, Look::Casts) {
            let Some(other) = self.beside(&reader).filter(|_| self.graph.op(reader.node) == op) else {
                continue;
            };
            match self.fit(other, of) {
                Fit::Along => found.push((reader, other)),
                Fit::Beside => beside = true,
                Fit::No => {}
            }
        }
        // Two that read one norm have nothing to do with it: which one would it be?
        (if found.len() == 1 { found.pop() } else { None }, beside)
    }
}
