//! Which tests run on which server releases.

/// Makes a `#[test]` per release of [`crate::Version::FULL`] of each function `fn name(version: Version) -> Result<()>`.
#[macro_export]
macro_rules! on_full_matrix {
    ($($test:ident),+ $(,)?) => {
        $crate::on_release!(redis_7_0, Redis70, $($test),+);
        $crate::on_release!(valkey_9_1, Valkey91, $($test),+);
    };
}

/// Makes a `#[test]` on one release of each function `fn name(version: Version) -> Result<()>`.
#[macro_export]
macro_rules! on_release {
    ($module:ident, $version:ident, $($test:ident),+ $(,)?) => {
        mod $module {
            $(
                #[test]
                fn $test() -> anyhow::Result<()> {
                    $crate::case(|| super::$test($crate::Version::$version))
                }
            )+
        }
    };
}
