# SPDX-License-Identifier: Apache-2.0
"""The judge of which device is meant. Nobody else compares serials, sources, MACs, host addresses or places.

Three questions, each answered on evidence, or with an error that says that it cannot be told:

=========================================  ============================================================================
question                                   asked with
=========================================  ============================================================================
Which device is meant by this id?          :func:`find` in one definition, :func:`find_both` in a guest's two,
                                           :func:`find_attached` for one that is to be attached, :func:`find_again` and
                                           :func:`find_again_persistent` for one that was found earlier; whose a device
                                           is says :func:`judge`
Which device of the other definition is    :func:`counterpart`; :func:`is_called_otherwise` by its alias,
this one?                                  :func:`replaced_by` for a write, :func:`listed_as` for a list
Is this the same device?                   :func:`same`, with a :class:`Verdict`; :func:`first_contradiction` for one
                                           that is asked for once more, :func:`is_taken_by` and
                                           :func:`is_written_beneath` for what is behind it
=========================================  ============================================================================

What each evidence is worth:

=====================  ============  ==================================================================================
evidence               worth         why
=====================  ============  ==================================================================================
user alias             proof         libvirt keeps it with the device; but a volume that Nova swapped has the alias of
                                     the one before
serial that is a UUID  proof         the attaching client wrote it; but a volume that Nova swapped has the serial
                                     of the one before
interfaceid            proof         Open vSwitch finds the port by it
tap, vhu or nic name   proof         only if it names one port alone of those in Nova's metadata of the guest
mdev UUID              proof         a mediated device is its UUID
``volume-<uuid>`` as   hint          a volume that Cinder migrated or retyped keeps its id, and lies in what is named
the source's last part               after another; other copies can have the name, too
record of its attach   word          this agent attached it, and nothing else can have taken over what the record says
inventory              last word     the control plane says so, now or earlier; a newer inventory replaces an older one
source, host address,  recognition   tell that two definitions show one device; they say nothing of whose it is
MAC
target, slot, order    nothing       the next device has the same ones
=====================  ============  ==================================================================================

What follows for a device:

==========================================  ===========================================================================
situation                                   judgement
==========================================  ===========================================================================
one proof, or several that agree            that id
a hint alone                                unknown; the hint is reported. With a word that agrees or not: the word's id
a word alone                                that id
words that differ                           the inventory's before the record's; two of one rank: disputed
a proof against a hint                      disputed, until an inventory names one of the two, or the record of an
                                            attach agrees with the proof
a proof against a word, and no hint that    disputed
agrees with the word
a user alias that is a UUID, with a serial  the alias if the source's name agrees with it; else disputed, until an
or a source name of another                 inventory names one of them, or the record of an attach agrees with it
a user alias otherwise                      the alias, whatever else the device says
==========================================  ===========================================================================

A disputed device goes by no id: it gets no alias, keeps the one it has, and is not found by any of the ids that it
could be.

What makes two devices the same one, or two:

==========================================  ===========================================================================
situation                                   judgement
==========================================  ===========================================================================
same source, host address, mdev UUID or     looks the same, if it is of one kind and neither its WWN nor its place on a
MAC, in another definition                  USB bus of the host differs
... and several of one definition look so   cannot be told
another serial, MAC, host address, mdev     No, wherever and whenever, if both have one
UUID, WWN or place on a USB bus of the host
another source of a disk                    nothing: a snapshot or a block job changes it
same place and name in one run of the       Yes if all else is the same; No if it has come by a serial or WWN, or lost
guest                                       it; else cannot be told
same place in another run or definition,    cannot be told; No if the device was taken out of there, or had a serial or
and nothing else                            WWN that this one lacks
same MAC elsewhere in one run               No: two ports may have one
one file or block device by two paths       same source
==========================================  ===========================================================================
"""

from aliasagent.devices.identity._claims import Claim as Claim
from aliasagent.devices.identity._claims import Record as Record
from aliasagent.devices.identity._claims import are_apart as are_apart
from aliasagent.devices.identity._claims import claim as claim
from aliasagent.devices.identity._claims import supports as supports
from aliasagent.devices.identity._evidence import Evidence as Evidence
from aliasagent.devices.identity._evidence import Identity as Identity
from aliasagent.devices.identity._evidence import Judgement as Judgement
from aliasagent.devices.identity._evidence import Verdict as Verdict
from aliasagent.devices.identity._evidence import reason as reason
from aliasagent.devices.identity._find import Found as Found
from aliasagent.devices.identity._find import counterpart as counterpart
from aliasagent.devices.identity._find import find as find
from aliasagent.devices.identity._find import find_attached as find_attached
from aliasagent.devices.identity._find import find_both as find_both
from aliasagent.devices.identity._find import has_double as has_double
from aliasagent.devices.identity._find import is_called_otherwise as is_called_otherwise
from aliasagent.devices.identity._hints import lasting as lasting
from aliasagent.devices.identity._hints import lasting_port as lasting_port
from aliasagent.devices.identity._hints import lasts as lasts
from aliasagent.devices.identity._hints import settled as settled
from aliasagent.devices.identity._same import MAY_BE_UNSAID as MAY_BE_UNSAID
from aliasagent.devices.identity._same import Seat as Seat
from aliasagent.devices.identity._same import contradiction_in as contradiction_in
from aliasagent.devices.identity._same import find_again as find_again
from aliasagent.devices.identity._same import find_again_persistent as find_again_persistent
from aliasagent.devices.identity._same import first_contradiction as first_contradiction
from aliasagent.devices.identity._same import have_one_source as have_one_source
from aliasagent.devices.identity._same import is_same_element as is_same_element
from aliasagent.devices.identity._same import is_taken_by as is_taken_by
from aliasagent.devices.identity._same import is_written_beneath as is_written_beneath
from aliasagent.devices.identity._same import listed_as as listed_as
from aliasagent.devices.identity._same import replaced_by as replaced_by
from aliasagent.devices.identity._same import same as same
from aliasagent.devices.identity._whose import identify as identify
from aliasagent.devices.identity._whose import judge as judge
from aliasagent.devices.identity._whose import rests_on_name as rests_on_name
