//! Contracts between processes and between roles: what they say to each other, and nothing else.
//!
//! Roles never depend on one another. Where they meet, they meet here: in code generated from
//! protobuf ([`workload`], [`spire`], [`node_stream`]), in what a server gives a node ([`node`],
//! [`issue`]), in the control protocol between the command line and a running site ([`control`]), and in what the roles
//! report of themselves ([`status`]).

/// A module with the code that was generated from one package.
macro_rules! generated {
    ($(#[$documentation:meta])* $name:ident = $package:literal) => {
        $(#[$documentation])*
        #[allow(
            clippy::all,
            missing_docs,
            clippy::allow_attributes_without_reason,
            unused_qualifications,
            reason = "generated from proto"
        )]
        pub mod $name {
            tonic::include_proto!($package);
        }
    };
}

pub mod control;
pub mod issue;
pub mod node;
pub mod status;

generated! {
    /// The SPIFFE Workload API (SPIFFE_Workload_API). Its proto has no package.
    workload = "_"
}

generated! {
    /// The stream by which a Renkei server configures its nodes.
    node_stream = "renkei.node.v1"
}

generated! {
    /// The health check of gRPC.
    health = "grpc.health.v1"
}

/// SPIRE's server API, with the numbers of spire-api-sdk. The modules are nested as the packages
/// are, because the generated code refers to them so.
pub mod spire {
    pub mod api {
        //! `spire.api`.

        generated! {
            /// The values that the services share.
            types = "spire.api.types"
        }

        pub mod server {
            //! `spire.api.server`.

            pub mod agent {
                //! Nodes.

                generated! {
                    /// `spire.api.server.agent.v1`.
                    v1 = "spire.api.server.agent.v1"
                }
            }

            pub mod bundle {
                //! Bundles.

                generated! {
                    /// `spire.api.server.bundle.v1`.
                    v1 = "spire.api.server.bundle.v1"
                }
            }

            pub mod entry {
                //! Registration entries.

                generated! {
                    /// `spire.api.server.entry.v1`.
                    v1 = "spire.api.server.entry.v1"
                }
            }

            pub mod svid {
                //! What is issued.

                generated! {
                    /// `spire.api.server.svid.v1`.
                    v1 = "spire.api.server.svid.v1"
                }
            }

            pub mod trustdomain {
                //! Federation relationships.

                generated! {
                    /// `spire.api.server.trustdomain.v1`.
                    v1 = "spire.api.server.trustdomain.v1"
                }
            }

            pub mod localauthority {
                //! The keys that the server signs with.

                generated! {
                    /// `spire.api.server.localauthority.v1`.
                    v1 = "spire.api.server.localauthority.v1"
                }
            }

            pub mod logger {
                //! What is logged.

                generated! {
                    /// `spire.api.server.logger.v1`.
                    v1 = "spire.api.server.logger.v1"
                }
            }

            pub mod debug {
                //! The server in numbers.

                generated! {
                    /// `spire.api.server.debug.v1`.
                    v1 = "spire.api.server.debug.v1"
                }
            }
        }
    }
}
