# SPDX-License-Identifier: Apache-2.0
"""Decide which device is meant. No other module compares serials, sources, MACs, host addresses or addresses.

An answer rests on evidence; where the evidence does not suffice, an error says so.

=========================================  ============================================================================
question                                   functions
=========================================  ============================================================================
Which device has this id?                  :func:`find` in one definition, :func:`find_both` in the live and the
                                           persistent one, :func:`find_attached` before an attach, :func:`find_again`
                                           and :func:`find_again_persistent` for a device found earlier
Which id does this device have?            :func:`judge`; :func:`identify`, which trusts a user alias and uses no hints
Which device of the other definition is    :func:`counterpart`; :func:`contradicts_alias` before an alias is set,
this one?                                  :func:`replaced_by` for a write, :func:`list_key` for a list
Are these two the same device?             :func:`same`, as a :class:`Verdict`; :func:`first_contradiction` for a
                                           repeated attach; :func:`is_taken_by` and :func:`is_written_beneath` for the
                                           sources of two devices
=========================================  ============================================================================

What each kind of evidence is worth:

========================  ========  ===================================================================================
evidence                  worth     why
========================  ========  ===================================================================================
user alias                proof     libvirt keeps it with the device; but after Nova swaps a volume, the disk keeps the
                                    alias of the old volume
serial that is a UUID     proof     the attaching client wrote it; but after Nova swaps a volume, the disk keeps the
                                    serial of the old volume
interfaceid               proof     Open vSwitch finds the port by it
tap, vhu or nic name,     proof     only if it matches exactly one port in Nova's metadata of the guest
name of a vhost socket
mdev UUID                 proof     a mediated device is identified by its UUID
``volume-<uuid>`` as the  unproven  a volume that Cinder migrated or retyped keeps its id, while its source has the
source's last part                  name of another volume; copies can have the name, too
record of an attach       hint      the journal says that this agent attached the device, and names properties that no
                                    other device can have taken over
inventory                 hint      the control plane names the id, now or earlier; ranks above the record of an
                                    attach, and a newer inventory above an older one
answer of the cloud       hint      Nova names a volume by its target, and Neutron a port by its MAC; ranks below all
                                    other hints, and counts only if :func:`borne_out` by the whole definition
source, host address,     match     shows that two definitions have the same device, but not which id it has
MAC
target, slot, order       none      the next device can have the same ones
========================  ========  ===================================================================================

Which id a device has:

==========================================  ===========================================================================
evidence                                    id
==========================================  ===========================================================================
one proof, or several that agree            that id
a source name alone                         none; it is reported as unproven
a hint, with or without a source name       the hint's id
hints that differ                           the id of the hint with the highest rank; disputed if two of that rank
                                            differ
a proof against a source name               disputed, unless an inventory or the cloud names one of the two ids, or the
                                            record of an attach agrees with the proof
a proof against a hint, and no source name  disputed
that agrees with the hint
a user alias that is a UUID, against a      the alias if the source name agrees with it; else disputed, unless an
serial or a source name                     inventory or the cloud names one of the ids, or the record of an attach
                                            agrees with the alias
any other user alias                        the alias, whatever the other evidence
==========================================  ===========================================================================

A disputed device has no id: a reconcile gives it no alias and leaves an alias that it has, and no search finds it by
any of the ids in dispute.

Whether two devices are the same:

==========================================  ===========================================================================
comparison                                  result
==========================================  ===========================================================================
same source, host address, mdev UUID or     match, if the kind is the same and neither the WWN nor the USB address on
MAC, in another definition                  the host differs
the same, for several devices of one        ambiguous
definition
another serial, MAC, host address, mdev     NO in every case, if both devices have one
UUID, WWN or USB address on the host
another source of a disk                    says nothing: a snapshot or a block job changes it
same alias, target and address in one run   YES if all else is the same; NO if a serial or WWN was added or lost; else
of the guest                                CANNOT_TELL
same place in another run or definition,    CANNOT_TELL; NO if the device was removed from there, or had a serial or
nothing else                                WWN that this one lacks
same MAC in another place of one run        NO: two ports may have the same MAC
one file or block device by two paths       same source
==========================================  ===========================================================================
"""

from aliasagent.devices.identity._claims import Claim as Claim
from aliasagent.devices.identity._claims import Record as Record
from aliasagent.devices.identity._claims import are_apart as are_apart
from aliasagent.devices.identity._claims import claim as claim
from aliasagent.devices.identity._claims import supports as supports
from aliasagent.devices.identity._cloud import borne_out as borne_out
from aliasagent.devices.identity._evidence import Evidence as Evidence
from aliasagent.devices.identity._evidence import Identity as Identity
from aliasagent.devices.identity._evidence import Judgement as Judgement
from aliasagent.devices.identity._evidence import Verdict as Verdict
from aliasagent.devices.identity._evidence import reason as reason
from aliasagent.devices.identity._find import Found as Found
from aliasagent.devices.identity._find import contradicts_alias as contradicts_alias
from aliasagent.devices.identity._find import counterpart as counterpart
from aliasagent.devices.identity._find import find as find
from aliasagent.devices.identity._find import find_attached as find_attached
from aliasagent.devices.identity._find import find_both as find_both
from aliasagent.devices.identity._find import has_double as has_double
from aliasagent.devices.identity._hints import lasting as lasting
from aliasagent.devices.identity._hints import lasting_port as lasting_port
from aliasagent.devices.identity._hints import lasts as lasts
from aliasagent.devices.identity._hints import settled as settled
from aliasagent.devices.identity._judge import identify as identify
from aliasagent.devices.identity._judge import judge as judge
from aliasagent.devices.identity._judge import rests_on_name as rests_on_name
from aliasagent.devices.identity._same import MAY_BE_MISSING as MAY_BE_MISSING
from aliasagent.devices.identity._same import LivePlace as LivePlace
from aliasagent.devices.identity._same import contradiction_in as contradiction_in
from aliasagent.devices.identity._same import find_again as find_again
from aliasagent.devices.identity._same import find_again_persistent as find_again_persistent
from aliasagent.devices.identity._same import first_contradiction as first_contradiction
from aliasagent.devices.identity._same import have_one_source as have_one_source
from aliasagent.devices.identity._same import is_same_element as is_same_element
from aliasagent.devices.identity._same import is_taken_by as is_taken_by
from aliasagent.devices.identity._same import is_written_beneath as is_written_beneath
from aliasagent.devices.identity._same import list_key as list_key
from aliasagent.devices.identity._same import replaced_by as replaced_by
from aliasagent.devices.identity._same import same as same
