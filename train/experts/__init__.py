"""The networks that train and judge others: identity (ArcFace), lip-sync (SyncNet), landmarks."""
