//! Holdfast: a container registry for the edge.
