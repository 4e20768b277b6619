//! What notifies say (RFC 7296, section 3.10.1, and the IANA registry of notify message types).

use crate::codes::codes;

codes! {
    /// What a notify says. Numbers below 16384 are errors, the others a status.
    NotifyType(u16) {
        /// A payload with the critical bit is unknown; its type is the data.
        UnsupportedCriticalPayload = 1, "UNSUPPORTED_CRITICAL_PAYLOAD";
        /// No IKE SA with these SPIs.
        InvalidIkeSpi = 4, "INVALID_IKE_SPI";
        /// Another major version is wanted.
        InvalidMajorVersion = 5, "INVALID_MAJOR_VERSION";
        /// The message cannot be read.
        InvalidSyntax = 7, "INVALID_SYNTAX";
        /// A message ID outside the window.
        InvalidMessageId = 9, "INVALID_MESSAGE_ID";
        /// An ESP packet with an unknown SPI.
        InvalidSpi = 11, "INVALID_SPI";
        /// None of the proposals is acceptable.
        NoProposalChosen = 14, "NO_PROPOSAL_CHOSEN";
        /// The key exchange is of another group than the chosen one.
        InvalidKePayload = 17, "INVALID_KE_PAYLOAD";
        /// The peer could not be authenticated.
        AuthenticationFailed = 24, "AUTHENTICATION_FAILED";
        /// Only one pair of addresses as selectors.
        SinglePairRequired = 34, "SINGLE_PAIR_REQUIRED";
        /// No more Child SAs on this IKE SA.
        NoAdditionalSas = 35, "NO_ADDITIONAL_SAS";
        /// No address to assign.
        InternalAddressFailure = 36, "INTERNAL_ADDRESS_FAILURE";
        /// A configuration payload was expected.
        FailedCpRequired = 37, "FAILED_CP_REQUIRED";
        /// None of the traffic selectors is acceptable.
        TsUnacceptable = 38, "TS_UNACCEPTABLE";
        /// An ESP packet outside its SA's selectors.
        InvalidSelectors = 39, "INVALID_SELECTORS";
        /// The addresses of a change are not acceptable (RFC 4555).
        UnacceptableAddresses = 40, "UNACCEPTABLE_ADDRESSES";
        /// A NAT where none is allowed (RFC 4555).
        UnexpectedNatDetected = 41, "UNEXPECTED_NAT_DETECTED";
        /// Another home address is to be used (RFC 5026).
        UseAssignedHoa = 42, "USE_ASSIGNED_HOA";
        /// A collision with another exchange: try again.
        TemporaryFailure = 43, "TEMPORARY_FAILURE";
        /// No Child SA with this SPI.
        ChildSaNotFound = 44, "CHILD_SA_NOT_FOUND";
        /// A group key management error (RFC 9838).
        InvalidGroupId = 45, "INVALID_GROUP_ID";
        /// Not authorized (RFC 9838).
        AuthorizationFailed = 46, "AUTHORIZATION_FAILED";
        /// An additional key exchange without its beginning (RFC 9370).
        StateNotFound = 47, "STATE_NOT_FOUND";
        /// The only IKE SA that the sender knows between these identities.
        InitialContact = 16384, "INITIAL_CONTACT";
        /// How many requests the sender can keep open.
        SetWindowSize = 16385, "SET_WINDOW_SIZE";
        /// More selectors would be acceptable in another Child SA.
        AdditionalTsPossible = 16386, "ADDITIONAL_TS_POSSIBLE";
        /// IP compression.
        IpcompSupported = 16387, "IPCOMP_SUPPORTED";
        /// A hash of the sender's address and port.
        NatDetectionSourceIp = 16388, "NAT_DETECTION_SOURCE_IP";
        /// A hash of the receiver's address and port.
        NatDetectionDestinationIp = 16389, "NAT_DETECTION_DESTINATION_IP";
        /// A cookie to repeat in IKE_SA_INIT.
        Cookie = 16390, "COOKIE";
        /// Transport mode is wanted.
        UseTransportMode = 16391, "USE_TRANSPORT_MODE";
        /// Hash and URL of certificates is understood.
        HttpCertLookupSupported = 16392, "HTTP_CERT_LOOKUP_SUPPORTED";
        /// The Child SA that is to be replaced.
        RekeySa = 16393, "REKEY_SA";
        /// No padding beyond ESP's own, please.
        EspTfcPaddingNotSupported = 16394, "ESP_TFC_PADDING_NOT_SUPPORTED";
        /// Later fragments go into the same SA.
        NonFirstFragmentsAlso = 16395, "NON_FIRST_FRAGMENTS_ALSO";
        /// MOBIKE (RFC 4555).
        MobikeSupported = 16396, "MOBIKE_SUPPORTED";
        /// A further IPv4 address of the sender.
        AdditionalIp4Address = 16397, "ADDITIONAL_IP4_ADDRESS";
        /// A further IPv6 address of the sender.
        AdditionalIp6Address = 16398, "ADDITIONAL_IP6_ADDRESS";
        /// The sender has no further address.
        NoAdditionalAddresses = 16399, "NO_ADDITIONAL_ADDRESSES";
        /// The SAs move to the addresses of this message.
        UpdateSaAddresses = 16400, "UPDATE_SA_ADDRESSES";
        /// A value to repeat: proof that the address answers.
        Cookie2 = 16401, "COOKIE2";
        /// The addresses as the sender sees them; no NAT may change them.
        NoNatsAllowed = 16402, "NO_NATS_ALLOWED";
        /// Seconds until the sender wants authentication anew (RFC 4478).
        AuthLifetime = 16403, "AUTH_LIFETIME";
        /// Several authentications (RFC 4739).
        MultipleAuthSupported = 16404, "MULTIPLE_AUTH_SUPPORTED";
        /// Another authentication follows.
        AnotherAuthFollows = 16405, "ANOTHER_AUTH_FOLLOWS";
        /// Redirects are understood (RFC 5685).
        RedirectSupported = 16406, "REDIRECT_SUPPORTED";
        /// Go to another gateway.
        Redirect = 16407, "REDIRECT";
        /// The gateway that sent the redirect.
        RedirectedFrom = 16408, "REDIRECTED_FROM";
        /// EAP instead of the responder's own authentication (RFC 5998).
        EapOnlyAuthentication = 16417, "EAP_ONLY_AUTHENTICATION";
        /// IKE_AUTH without a Child SA is understood (RFC 6023).
        ChildlessIkev2Supported = 16418, "CHILDLESS_IKEV2_SUPPORTED";
        /// A token to show after a crash (RFC 6290).
        QuickCrashDetection = 16419, "QUICK_CRASH_DETECTION";
        /// Encrypted fragments are understood (RFC 7383).
        Ikev2FragmentationSupported = 16430, "IKEV2_FRAGMENTATION_SUPPORTED";
        /// Hashes that the sender can verify signatures with (RFC 7427).
        SignatureHashAlgorithms = 16431, "SIGNATURE_HASH_ALGORITHMS";
        /// An IKE SA can be cloned (RFC 7791).
        CloneIkeSaSupported = 16432, "CLONE_IKE_SA_SUPPORTED";
        /// Clone the IKE SA.
        CloneIkeSa = 16433, "CLONE_IKE_SA";
        /// A puzzle to solve (RFC 8019).
        Puzzle = 16434, "PUZZLE";
        /// A postquantum preshared key can be used (RFC 8784).
        UsePpk = 16435, "USE_PPK";
        /// Which postquantum preshared key.
        PpkIdentity = 16436, "PPK_IDENTITY";
        /// Authentication without the postquantum preshared key.
        NoPpkAuth = 16437, "NO_PPK_AUTH";
        /// IKE_INTERMEDIATE is understood (RFC 9242).
        IntermediateExchangeSupported = 16438, "INTERMEDIATE_EXCHANGE_SUPPORTED";
        /// The responder assigns IPv4 addresses (RFC 8983).
        Ip4Allowed = 16439, "IP4_ALLOWED";
        /// The responder assigns IPv6 addresses.
        Ip6Allowed = 16440, "IP6_ALLOWED";
        /// Joins the exchanges of an additional key exchange (RFC 9370).
        AdditionalKeyExchange = 16441, "ADDITIONAL_KEY_EXCHANGE";
        /// Aggregation and fragmentation of inner packets (RFC 9347).
        UseAggfrag = 16442, "USE_AGGFRAG";
        /// Which authentication methods the sender supports (RFC 9593).
        SupportedAuthMethods = 16443, "SUPPORTED_AUTH_METHODS";
    }
}

impl NotifyType {
    const FIRST_STATUS: u16 = 16_384;

    /// Whether it says an error. An unknown error in a response means that the request failed, an
    /// unknown status is ignored (RFC 7296, section 3.10.1).
    #[must_use]
    pub fn is_error(self) -> bool {
        u16::from(self) < Self::FIRST_STATUS
    }
}
