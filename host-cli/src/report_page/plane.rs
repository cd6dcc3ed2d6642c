//! The plane in which vectors differ most: their first two principal components.

/// Rounds of the iteration; where two components are nearly equal more would turn the picture and not better it.
const ROUNDS: usize = 200;

/// Vectors seen in a plane.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plane {
    /// The place of each vector.
    pub(super) places: Vec<[f64; 2]>,
    /// The share of all variance that each direction shows.
    pub(super) shares: [f64; 2],
}

/// The plane through the mean of `vectors`, all of one length, along the two directions in which they vary most.
///
/// Everything is `f64` with + − × ÷ √, each sum in the order of its terms, so the places have the same bits everywhere.
/// The directions are eigenvectors of the matrix of inner products, by orthogonal iteration; each points to where the place
/// farthest out is positive.
pub(super) fn principal_plane(mut vectors: Vec<Vec<f64>>) -> Plane {
    center(&mut vectors);
    let products: Vec<Vec<f64>> =
        vectors.iter().map(|a| vectors.iter().map(|b| dot(a, b)).collect()).collect();
    let total: f64 = products.iter().enumerate().map(|(at, row)| row[at]).sum();
    let n = vectors.len();
    // Any start will do that is not at right angles to the answer.
    let mut first: Vec<f64> = (0..n).map(|at| 1.0 + at as f64 / n as f64).collect();
    let mut second: Vec<f64> =
        (0..n).map(|at| if at % 2 == 0 { 1.0 } else { -1.0 - at as f64 / n as f64 }).collect();
    for _ in 0..ROUNDS {
        first = times(&products, &first);
        normalize(&mut first);
        second = times(&products, &second);
        let along = dot(&first, &second);
        second.iter_mut().zip(&first).for_each(|(s, f)| *s -= along * f);
        normalize(&mut second);
    }
    let mut shares = [0.0; 2];
    let mut places = vec![[0.0; 2]; n];
    for (axis, direction) in [first, second].into_iter().enumerate() {
        let variance = dot(&direction, &times(&products, &direction));
        let (mut length, mut farthest) = (if variance > 0.0 { variance.sqrt() } else { 0.0 }, 0.0_f64);
        for &value in &direction {
            if value.abs() > farthest.abs() {
                farthest = value;
            }
        }
        if farthest < 0.0 {
            length = -length;
        }
        shares[axis] = if total > 0.0 { variance / total } else { 0.0 };
        places.iter_mut().zip(&direction).for_each(|(place, value)| place[axis] = length * value);
    }
    Plane { places, shares }
}

fn center(vectors: &mut [Vec<f64>]) {
    let n = vectors.len() as f64;
    let Some(mut mean) = vectors.first().map(|first| vec![0.0; first.len()]) else { return };
    for vector in vectors.iter() {
        mean.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
    }
    for vector in vectors {
        vector.iter_mut().zip(&mean).for_each(|(x, sum)| *x -= sum / n);
    }
}

fn times(matrix: &[Vec<f64>], vector: &[f64]) -> Vec<f64> {
    matrix.iter().map(|row| dot(row, vector)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

/// Gives a vector the length 1; one of no length stays.
fn normalize(vector: &mut [f64]) {
    let norm = dot(vector, vector).sqrt();
    if norm > 1e-150 {
        vector.iter_mut().for_each(|x| *x /= norm);
    }
}

/// The vector of length 1 in the direction of this one; of a zero vector itself.
pub(super) fn unit(vector: &[f32]) -> Vec<f64> {
    let mut unit: Vec<f64> = vector.iter().map(|&x| f64::from(x)).collect();
    normalize(&mut unit);
    unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_a_plane_keep_their_distances() {
        // A rectangle of 6 by 2, turned into the third dimension and moved.
        let (u, v) = ([2.0 / 3.0, 2.0 / 3.0, 1.0 / 3.0], [-2.0 / 3.0, 1.0 / 3.0, 2.0 / 3.0]);
        let corners = [(3.0, 1.0), (3.0, -1.0), (-3.0, 1.0), (-3.0, -1.0)];
        let vectors = corners.map(|(a, b)| (0..3).map(|k| 7.0 + a * u[k] + b * v[k]).collect()).to_vec();
        let Plane { places, shares } = principal_plane(vectors);
        assert!((shares[0] - 0.9).abs() < 1e-12 && (shares[1] - 0.1).abs() < 1e-12, "{shares:?}");
        for (place, (a, b)) in places.iter().zip(corners) {
            assert!(
                (place[0].abs() - f64::abs(a)).abs() < 1e-9 && (place[1].abs() - f64::abs(b)).abs() < 1e-9
            );
        }
        let farthest = |axis: usize| {
            places.iter().fold(0.0_f64, |far, p| if p[axis].abs() > far.abs() { p[axis] } else { far })
        };
        assert!(farthest(0) > 0.0 && farthest(1) > 0.0, "{places:?}");
    }

    #[test]
    fn equal_vectors_one_vector_and_none_are_in_the_middle() {
        for n in [0, 1, 5] {
            let Plane { places, shares } = principal_plane(vec![vec![0.5, -2.0]; n]);
            assert_eq!((places, shares), (vec![[0.0, 0.0]; n], [0.0, 0.0]));
        }
    }

    #[test]
    fn a_zero_vector_has_no_direction() {
        assert_eq!(unit(&[0.0, 0.0]), [0.0, 0.0]);
        assert_eq!(unit(&[0.0, -4.0]), [0.0, -1.0]);
    }
}
